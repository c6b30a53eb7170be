"""Two processes train what one does: the same losses, each other's checkpoints, one log.

All of it is one test, since it takes one launch: two processes that talk over gloo, as a launcher starts them.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cfworld.errors import ConfigError, MissingDependencyError
from cfworld.train import run_state
from cfworld.train.launch import joined
from cfworld.train.loop import run
from cfworld.train.parallel import Processes
from cfworld.train.processes.sharded_state import SHARDS, read_shards
from cfworld.train.processes.team import ALONE
from tests.train import toy_team
from tests.train.resuming import trained
from tests.train.toy_dataset import write_dataset
from tests.train.toy_team import RESUMED, STAGES, STEPS, in_parts, loop, teacher

Losses = list[dict[str, float]]
PATIENCE = 120.0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    write_dataset(str(tmp_path / "data"))
    with two_processes(tmp_path) as processes:
        with torch.compiler.set_stance("force_eager"):
            alone = {name: in_parts(name, tmp_path / "one") for name in STAGES}
        (tmp_path / "one" / "ready").touch()
        wait_until((tmp_path / "report.json").is_file, processes)
        report = json.loads((tmp_path / "report.json").read_text())
        wait_until(lambda: steps_saved(tmp_path / "killed") >= 2, processes)
        processes[1].send_signal(signal.SIGKILL)
        assert processes[0].wait(PATIENCE) != 0, "a process that has lost another one ends too"

    assert_equal(report["losses"], alone)
    assert_equal(report["resumed"], {name: alone[name][1:] for name in RESUMED})
    begun_by_two = {name: trained(STAGES[name](), tmp_path / "two" / "begun" / name, STEPS[name]) for name in RESUMED}
    assert_equal(begun_by_two, {name: alone[name][1:] for name in RESUMED})
    assert_the_matrices_of_blocks_are_cut(tmp_path / "two" / "whole" / "teacher")
    assert_masters_are_float32(tmp_path / "two" / "whole" / "narrow")
    assert_the_leader_alone_writes(tmp_path, report["figures"])
    assert_an_export_on_the_way_is_what_a_shorter_run_exports(tmp_path)
    assert_one_encodes_and_all_read(tmp_path, report["latents"])
    assert_a_killed_run_goes_on(tmp_path, alone["teacher"])
    assert steps_saved(tmp_path / "ended") == 2, "the step in which one process is asked to end is the last, and saved"
    refusals = report["refusals"]
    assert "batch_size=3 with 2 processes; expected a multiple of 2" in refusals["batch_size"]
    assert "compile=true and shard=true with several processes; expected one of them" in refusals["compile"]
    assert not (tmp_path / "refused").exists()


def assert_equal(found: dict[str, Losses], expected: dict[str, Losses]) -> None:
    """The losses are the same within rounding: 1e-5 in float32, the step of bfloat16 where that is computed in."""
    assert found.keys() == expected.keys()
    for name, losses in expected.items():
        rel, least = (1e-2, 1e-2) if name == "narrow" else (1e-5, 1e-7)
        for step, (left, right) in enumerate(zip(found[name], losses, strict=True)):
            assert left == pytest.approx(right, rel=rel, abs=least), f"{name}, step {step}"


def assert_the_matrices_of_blocks_are_cut(folder: Path) -> None:
    """And nothing else: of those, the checkpoint says where they are; all other weights stand in it."""
    checkpoint = run_state.latest_checkpoint(folder)
    assert checkpoint is not None
    saved = torch.load(checkpoint / "training.pt", weights_only=True)
    blocks = teacher().module.get_submodule("transformer.blocks")
    layers = {name for name, layer in blocks.named_modules() if isinstance(layer, nn.Linear)}
    for weights in (saved["model"], saved["ema"]):
        cut = {name for name, value in weights.items() if not isinstance(value, torch.Tensor)}
        assert cut == {f"transformer.blocks.{name}.weight" for name in layers}


def assert_masters_are_float32(folder: Path) -> None:
    checkpoint = run_state.latest_checkpoint(folder)
    assert checkpoint is not None
    state = read_shards(checkpoint, ALONE)
    moments = [values for optimizer in state["optimizers"] for values in optimizer["state"].values()]
    kept = [value for values in (state["model"], state["ema"], *moments) for value in values.values()]
    assert {value.dtype for value in kept} == {torch.float32}
    assert len(list((checkpoint / SHARDS).glob("*.safetensors"))) == 2, "each process wrote its own"


def assert_the_leader_alone_writes(root: Path, figures: dict[str, Any]) -> None:
    assert json.loads((root / "led" / "figures.json").read_text())["steps"] == figures["steps"] == 2
    assert len(list((root / "led" / "tensorboard").iterdir())) == 1
    assert (root / "led" / "export" / "config.json").is_file()
    assert list((root / "led" / "samples").iterdir())
    first, second = ((root / f"stderr_{rank}").read_text() for rank in (0, 1))
    assert "teacher: 100%" in first
    assert "teacher:" not in second


def assert_an_export_on_the_way_is_what_a_shorter_run_exports(root: Path) -> None:
    run(teacher(), loop(1), root / "one" / "led")
    (on_the_way,) = (root / "led" / "exports").iterdir()
    assert on_the_way.name == "step_00000001"
    for part in ("teacher", "tokenizer"):
        (kept,), (expected,) = (list(at.glob(f"{part}*.safetensors")) for at in (on_the_way, root / "one/led/export"))
        torch.testing.assert_close(load_file(kept), load_file(expected), rtol=1e-2, atol=1e-4)


def assert_one_encodes_and_all_read(root: Path, latents: list[float]) -> None:
    (cache,) = (root / "runs" / "toy" / "latents").iterdir()
    assert latents == [load_file(cache)["latents"].double().mean().item()] * 2


def assert_a_killed_run_goes_on(root: Path, known: Losses) -> None:
    """What one process makes of a killed run's checkpoint is what an uninterrupted run would have made."""
    steps = steps_saved(root / "killed") + 1
    whole = known + trained(teacher(steps=steps), root / "one" / "whole" / "teacher", steps)
    resumed = trained(teacher(steps=steps), root / "killed", steps)
    assert_equal({"killed": resumed}, {"killed": [whole[steps - 1]]})


def steps_saved(folder: Path) -> int:
    checkpoint = run_state.latest_checkpoint(folder)
    return run_state.read_progress(checkpoint).step if checkpoint else 0


def wait_until(ready: Callable[[], bool], processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        assert all(process.poll() is None for process in processes), "a process died"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextmanager
def two_processes(root: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start `toy_team` twice, with what a launcher tells the processes of a machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    try:
        for rank in ("0", "1"):
            environment = {**os.environ, **told, "RANK": rank, "LOCAL_RANK": rank}
            with (root / f"stderr_{rank}").open("wb") as stderr:
                command = [sys.executable, "-m", toy_team.__name__, str(root)]
                here = Path(__file__).parents[2]
                processes.append(subprocess.Popen(command, env=environment, stderr=stderr, cwd=here))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_one_gpu_of_several_is_refused_where_there_are_several_processes() -> None:
    with pytest.raises(ConfigError, match=r"device='cuda:1' with several processes; expected 'cpu', or 'cuda'"):
        Processes("cuda:1")


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "64")
    with pytest.raises(ConfigError, match=r"64 processes on this machine, which has \d+ GPUs; expected one"):
        Processes("cuda")


def test_several_processes_without_accelerate_are_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[distributed\]'"), joined("cpu"):
        pass
