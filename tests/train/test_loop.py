import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from cfworld.errors import CheckpointError, ConfigError, TrainingError
from cfworld.files import locked_folder
from cfworld.precision import fast_precision
from cfworld.train import run_state
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.training_run import step_generator
from tests.train import toy_stage
from tests.train.toy_stage import ToyStage, toy_config, trained

SIX = range(6)


def test_three_steps_and_three_more_equal_six_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", schedule="constant")
    first = trained(tmp_path / "parts", schedule="constant", steps=3)
    second = trained(tmp_path / "parts", schedule="constant", steps=6)
    assert first.losses + second.losses == whole.losses
    for left, right in zip(whole.module.parameters(), second.module.parameters(), strict=True):
        assert torch.equal(left, right)
    averages = [run_state.latest_checkpoint(tmp_path / name) for name in ("whole", "parts")]
    assert averages[0] is not None
    assert averages[1] is not None
    assert (averages[0] / "ema.safetensors").read_bytes() == (averages[1] / "ema.safetensors").read_bytes()


def test_the_log_of_a_resumed_run_holds_every_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of one second are read in the order of their names, which end in a count: 10 goes before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    trained(tmp_path, schedule="constant", steps=2, log_every=1)
    cut_off = SummaryWriter(str(tmp_path / "tensorboard"))
    cut_off.add_scalar("train/loss", 9.0, 3)  # of a part that was not saved
    cut_off.close()
    trained(tmp_path, schedule="constant", steps=4, log_every=1)
    log = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [entry.step for entry in log.Scalars("train/loss")] == [1, 2, 3, 4]
    assert 9.0 not in [entry.value for entry in log.Scalars("train/loss")]


@pytest.mark.parametrize("name", ["save_file", "save", "rename"])
def test_a_run_that_dies_while_saving_resumes_from_the_save_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    whole = trained(tmp_path / "whole", save_every=2)
    owner = {"save_file": run_state, "save": torch, "rename": Path}[name]
    plain, calls = getattr(owner, name), []

    def dies_at_the_second_save(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) > (3 if name == "save_file" else 1):
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies_at_the_second_save)
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "parts", save_every=2)
    checkpoint = run_state.latest_checkpoint(tmp_path / "parts")
    assert checkpoint is not None
    assert run_state.read_progress(checkpoint).step == 2
    assert trained(tmp_path / "parts", save_every=3).losses == whole.losses[2:]
    assert not list(tmp_path.rglob("*.part")), "what the kill left half-written is removed with the next save"


def test_what_a_kill_left_half_written_is_removed_even_if_its_step_was_saved_by_another(tmp_path: Path) -> None:
    trained(tmp_path, save_every=2)
    newest = run_state.latest_checkpoint(tmp_path)
    assert newest is not None
    (newest.parent / f".{newest.name}.part").mkdir()
    toy, progress = torch.nn.Linear(1, 1), run_state.read_progress(newest)
    assert run_state.save_checkpoint(tmp_path, progress, toy, toy, [], {}) == newest
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_process_loses_only_what_came_after_its_last_save(tmp_path: Path) -> None:
    command = [sys.executable, "-m", toy_stage.__name__, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]) as process:
        for _ in range(2400):
            newest = run_state.latest_checkpoint(tmp_path)
            if newest is not None and newest.name > "step_00000006":
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    checkpoint = run_state.latest_checkpoint(tmp_path)
    assert checkpoint is not None
    step = run_state.read_progress(checkpoint).step
    assert step > 6
    stage = ToyStage()
    config = toy_config(steps=100_000, save_every=2, max_minutes=1e-9)
    assert run(stage, config, tmp_path)["steps"] == step + 1


def test_figures_and_configuration_are_written(tmp_path: Path) -> None:
    stage = ToyStage()
    figures = run(stage, toy_config(sample_every=2), tmp_path, details={"world": {"name": "toy"}})
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    assert figures["steps"] == 6
    assert figures["exported"]
    assert figures["step"] == 6  # of the last sample
    assert figures["last"]["loss"] == pytest.approx(stage.losses[-1])
    assert "name: toy" in (tmp_path / "config.yaml").read_text()
    assert stage.sampled == [2, 4, 6]
    assert list((tmp_path / "tensorboard").iterdir())


def test_exports_that_stay_hold_what_shorter_runs_export(tmp_path: Path) -> None:
    """Each with a sample of its own, and the last one where it always is."""

    class Writer(ToyStage):
        def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any] | None:
            torch.save(ema_module.state_dict(), folder / "weights.pt")
            return None

    stage, short = Writer(), Writer()
    run(stage, toy_config(schedule="constant", export_every=2), tmp_path / "long")
    run(short, toy_config(schedule="constant", steps=4), tmp_path / "short")
    kept = sorted(path.name for path in (tmp_path / "long" / "exports").iterdir())
    assert kept == ["step_00000002", "step_00000004"]
    assert stage.sampled == [2, 4, 6]
    assert short.sampled == [4]
    one, other = (torch.load(tmp_path / name / "weights.pt") for name in ("long/exports/step_00000004", "short/export"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert (tmp_path / "long" / "export" / "weights.pt").is_file()


def test_a_finished_run_that_is_run_again_keeps_what_its_steps_measured(tmp_path: Path) -> None:
    first = run(ToyStage(), toy_config(), tmp_path)
    again = run(ToyStage(), toy_config(), tmp_path)
    for name in ("steps", "last", "examples_per_second"):
        assert again[name] == first[name] is not None
    assert json.loads((tmp_path / "figures.json").read_text()) == again


def test_figures_of_fewer_steps_are_not_taken_for_those_of_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies after its last save, before its figures are written."""
    run(ToyStage(), toy_config(steps=3), tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ToyStage, "sample", lambda *_: pytest.fail("died"))
        with pytest.raises(pytest.fail.Exception):
            run(ToyStage(), toy_config(steps=6), tmp_path)
    figures = run(ToyStage(), toy_config(steps=6), tmp_path)
    assert (figures["last"], figures["examples_per_second"]) == ({}, None)


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    trained(tmp_path, steps=7, save_every=2)
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["step_00000006", "step_00000007"]


def test_a_run_stops_and_saves_at_its_time_limit(tmp_path: Path) -> None:
    assert run(ToyStage(), toy_config(steps=1000, max_minutes=1e-9), tmp_path)["steps"] == 1
    checkpoint = run_state.latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert run_state.read_progress(checkpoint).step == 1


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, schedule="constant", steps=2)
    before = sorted(tmp_path.rglob("*"))
    with locked_folder(tmp_path, AssertionError), pytest.raises(TrainingError, match="another process is writing"):
        trained(tmp_path, schedule="constant", steps=4)
    assert sorted(tmp_path.rglob("*")) == before
    trained(tmp_path, schedule="constant", steps=4)


def test_resuming_under_another_configuration_is_refused(tmp_path: Path) -> None:
    trained(tmp_path, details={"world": {"name": "a"}})
    with pytest.raises(ConfigError, match=r"loop\.lr: 0\.05 -> 0\.06; world\.name: 'a' -> 'b'"):
        trained(tmp_path, details={"world": {"name": "b"}}, lr=0.06)


def test_resuming_with_fewer_steps_than_taken_is_refused(tmp_path: Path) -> None:
    trained(tmp_path)
    with pytest.raises(ConfigError, match="6 already"):
        trained(tmp_path, steps=5)


def test_cadence_and_length_may_change_when_resuming(tmp_path: Path) -> None:
    trained(tmp_path)
    assert len(trained(tmp_path, steps=8, log_every=2, save_every=4, sample_every=5, export_every=7).losses) == 2


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    trained(tmp_path)
    checkpoint = run_state.latest_checkpoint(tmp_path)
    assert checkpoint is not None
    (checkpoint / "training.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match="step_00000006"):
        trained(tmp_path, steps=8)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    stage = ToyStage()
    stage.total = torch.tensor(float("nan"))
    with pytest.raises(TrainingError, match="step 1"):
        run(stage, toy_config(), tmp_path)
    assert run_state.latest_checkpoint(tmp_path) is None


class BreakingStage(ToyStage):
    """A `ToyStage` with one step that is not finite: its loss, or its gradient alone."""

    def __init__(self, at: int, where: str) -> None:
        super().__init__()
        self.at, self.where = at, where

    def loss(self, batch: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        loss, metrics = super().loss(batch, generator)
        if len(self.losses) != self.at:
            return loss, metrics
        if self.where == "gradient":
            zero = torch.zeros((), requires_grad=True) * sum(p.sum() for p in self.module.parameters()) * 0
            return loss + zero.sqrt(), metrics
        return loss * float("nan"), metrics


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_no_checkpoint_holds_weights_made_by_a_step_that_was_not_finite(tmp_path: Path, where: str) -> None:
    """Step 4 lies between two logged steps; the save at step 5 must not happen."""
    with pytest.raises(TrainingError, match="at step 4;"):
        run(BreakingStage(4, where), toy_config(steps=24, save_every=5, log_every=12), tmp_path)
    assert run_state.latest_checkpoint(tmp_path) is None


def test_the_checkpoint_before_a_step_that_was_not_finite_stays(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="at step 4;"):
        run(BreakingStage(4, "loss"), toy_config(save_every=3, log_every=12), tmp_path)
    checkpoint = run_state.latest_checkpoint(tmp_path)
    assert checkpoint is not None
    assert run_state.read_progress(checkpoint).step == 3
    assert all(value.isfinite().all() for value in load_file(checkpoint / "model.safetensors").values())


def test_a_save_due_at_the_time_limit_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, saved = run_state.save_checkpoint, []

    def counted(folder: Path, progress: run_state.Progress, *rest: Any) -> Path:
        saved.append(progress.step)
        return plain(folder, progress, *rest)

    monkeypatch.setattr(run_state, "save_checkpoint", counted)
    trained(tmp_path, steps=1000, save_every=1, max_minutes=1e-9)
    assert saved == [1]


def test_saving_a_step_again_removes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = trained(tmp_path)
    progress = run_state.Progress(step=6, minutes=0.0, config={})
    monkeypatch.setattr(run_state.shutil, "rmtree", lambda path, **_: pytest.fail(f"{path} was removed"))
    again = run_state.save_checkpoint(tmp_path, progress, stage.module, stage.module, [], {})
    assert run_state.read_progress(again).config["loop"]["steps"] == 6


def test_generators_depend_on_seed_and_step_alone() -> None:
    draws = [torch.rand(3, generator=step_generator(*key)).tolist() for key in ((0, 5), (0, 5), (0, 6), (1, 5))]
    assert draws[0] == draws[1]
    assert len({tuple(draw) for draw in draws}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"schedule": "linear"},
        {"optimizer": "sgd"},
        {"precision": "fp16"},
        {"ema_decay": 1.5},
        {"betas": [0.9]},
        {"betas": [0.9, 1.0]},
        {"betas": [-0.1, 0.9]},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"clip": float("nan")},
        {"max_minutes": -1.0},
        {"export_every": -1},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(change))}="):
        LoopConfig(**change)


@pytest.mark.parametrize("change", [{"optimizer": "muon"}, {"precision": "bf16"}, {"precision": "auto"}])
def test_options_train_too(tmp_path: Path, change: dict[str, Any]) -> None:
    losses = trained(tmp_path, steps=40, save_every=40, **change).losses
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_run_says_which_format_auto_chose(tmp_path: Path) -> None:
    trained(tmp_path, steps=1, precision="auto")
    loop = yaml.safe_load((tmp_path / "config.yaml").read_text())["loop"]
    assert loop["precision"] == fast_precision("cpu")
