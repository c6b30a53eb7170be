"""Ctrl-C and SIGTERM end a training between two steps."""

import io
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from cfworld.interruption import EndRequest, Terminated
from cfworld.train import run_state
from cfworld.train.loop import run
from cfworld.train.training_run import TrainingRun
from tests.train.toy_stage import ToyStage, toy_config, trained


class Interrupted(ToyStage):
    """Asks for the end by a signal in one of its steps."""

    def __init__(self, asked: signal.Signals, step: int) -> None:
        super().__init__()
        self.asked, self.step = asked, step

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        if len(self.losses) + 1 == self.step:
            signal.raise_signal(self.asked)
        return super().loss(batch, generator)


ASKED = [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]


@pytest.mark.parametrize(("asked", "ends"), ASKED)
@pytest.mark.usefixtures("in_front")
def test_whoever_asks_for_the_end_loses_not_a_step(
    tmp_path: Path, asked: signal.Signals, ends: type[KeyboardInterrupt]
) -> None:
    whole, stage = trained(tmp_path / "whole"), Interrupted(asked, 4)
    with pytest.raises(KeyboardInterrupt, match="step 4 is saved in") as ended:
        run(stage, toy_config(save_every=100), tmp_path / "parts")
    assert ended.type is ends
    assert stage.losses + trained(tmp_path / "parts", save_every=100).losses == whole.losses
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_whoever_asks_for_the_end_keeps_the_export_that_was_due(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(signal.SIGTERM, 2), toy_config(export_every=2), tmp_path)
    trained(tmp_path, export_every=2)
    assert sorted(path.name for path in (tmp_path / "exports").iterdir()) == ["step_00000002", "step_00000004"]


@pytest.mark.parametrize("save_every", [2, 100])
def test_a_step_at_which_the_end_comes_is_saved_once(
    tmp_path: Path, save_every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = TrainingRun.save, []

    def counted(training: TrainingRun) -> None:
        saved.append(training.step)
        save(training)

    monkeypatch.setattr(TrainingRun, "save", counted)
    with pytest.raises(KeyboardInterrupt):
        run(Interrupted(signal.SIGTERM, 2), toy_config(save_every=save_every), tmp_path)
    assert saved == [2]


def test_an_end_that_is_asked_for_during_the_last_save_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = run_state.save_checkpoint

    def interrupted(*given: Any) -> Path:
        signal.raise_signal(signal.SIGTERM)
        return save(*given)

    with monkeypatch.context() as patch:
        patch.setattr(run_state, "save_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt, match="step 6 is saved in"):
            trained(tmp_path, save_every=100)
    assert trained(tmp_path, save_every=100).losses == []
    assert (tmp_path / "figures.json").exists()


@pytest.mark.usefixtures("in_front")
def test_the_end_loses_not_a_step_where_nobody_reads_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends `| tee` too, and standard error is a broken pipe from then on."""

    class Pipe(io.StringIO):
        def write(self, text: str) -> int:
            if stage.losses:
                raise BrokenPipeError
            return super().write(text)

    stage, pipe = Interrupted(signal.SIGINT, 2), Pipe()
    monkeypatch.setattr(sys, "stderr", pipe)
    with pytest.raises(KeyboardInterrupt, match="step 2 is saved in"):
        run(stage, toy_config(save_every=100), tmp_path)
    assert "0/6" in pipe.getvalue()


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGTERM])
def test_what_is_ignored_stays_ignored(tmp_path: Path, ignored: signal.Signals) -> None:
    """Ctrl-C is, by what a script put into the background."""
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        run(Interrupted(ignored, 2), toy_config(), tmp_path)
        assert signal.getsignal(ignored) == signal.SIG_IGN
    except KeyboardInterrupt:
        pytest.fail("it is answered")
    finally:
        signal.signal(ignored, before)


def test_several_processes_ask_each_other_for_the_end_at_the_steps_that_are_logged() -> None:
    several: Any = SimpleNamespace(team=SimpleNamespace(size=2, any=bool), config=toy_config(steps=5, log_every=2))
    request, found = EndRequest(), []
    request(signal.SIGTERM, None)
    for several.step in range(1, 6):
        found.append(TrainingRun.is_ending(several, request))
    assert found == [False, True, False, True, True], "the last one among them"
    assert type(EndRequest().ending("")) is Terminated, "in those that nobody asked too"


@pytest.mark.usefixtures("in_front")
def test_a_second_ctrl_c_does_not_wait(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Impatient(ToyStage):
        def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("it waits")

    with pytest.raises(KeyboardInterrupt):
        run(Impatient(), toy_config(), tmp_path)
    assert run_state.latest_checkpoint(tmp_path) is None
    assert "cfworld: ends after this step, which is saved; Ctrl-C again ends at once" in capsys.readouterr().err
