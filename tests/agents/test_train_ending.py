"""Ctrl-C and SIGTERM end an agent's training between two updates, when it has been saved."""

import signal
from pathlib import Path

import pytest
from stable_baselines3 import PPO

from cfworld import World
from cfworld.agents.learner import load_checkpoint
from cfworld.agents.train import train_agent
from cfworld.interruption import Terminated
from tests.agents.test_train import settings
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


QUIET = {"eval_every": 0, "save_every": 1000}
"""Nothing is judged, and nothing is saved before the end."""


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("in_front")
def test_whoever_asks_for_the_end_keeps_every_update(
    world: World, tmp_path: Path, asked: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn, learned = PPO.train, []

    def train(learner: PPO) -> None:
        learn(learner)
        learned.append({name: value.clone() for name, value in learner.policy.state_dict().items()})
        signal.raise_signal(asked)

    with monkeypatch.context() as patch:
        patch.setattr(PPO, "train", train)
        # the eight, and one of both rows after it
        with pytest.raises(KeyboardInterrupt, match="step 10 is saved in") as ended:
            train_agent(settings(**QUIET), world, tmp_path)
    assert isinstance(ended.value, Terminated) == (asked == signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    kept = load_checkpoint(tmp_path / "checkpoint.pt")
    assert kept["progress"]["steps"] == 10
    assert len(learned) == 1
    assert all(kept["parameters"]["policy"][name].equal(value) for name, value in learned[0].items())
    assert train_agent(settings(**QUIET, total_steps=18), world, tmp_path).steps == 18


@pytest.mark.usefixtures("in_front")
def test_a_second_ctrl_c_does_not_wait(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def train(learner: PPO) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it waits")

    monkeypatch.setattr(PPO, "train", train)
    with pytest.raises(KeyboardInterrupt):
        train_agent(settings(**QUIET), world, tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()
    assert (
        "cfworld: ends at the next step, when the agent is saved; Ctrl-C again ends at once" in capsys.readouterr().err
    )
