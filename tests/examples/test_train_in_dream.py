"""examples/train_in_dream.py, at toy size."""

import runpy
from pathlib import Path

import pytest

from tests.toy import toy_world

pytestmark = pytest.mark.sources

SCRIPT = Path(__file__).parents[2] / "examples" / "train_in_dream.py"


def test_an_agent_is_trained_in_the_dream_and_scored_in_the_simulator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) < 40
    toy_world().save_pretrained(tmp_path / "toy")
    small = {"num_envs": 2, "n_steps": 4, "batch_size": 4, "n_epochs": 1, "total_steps": 8, "horizon": 8}
    runpy.run_path(str(SCRIPT))["main"](str(tmp_path / "toy"), str(tmp_path / "agent"), **small)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["the agent", "random"]
    assert all("in the dream" in line and "in the simulator" in line for line in lines)
    assert (tmp_path / "agent" / "last" / "agent.json").exists()
