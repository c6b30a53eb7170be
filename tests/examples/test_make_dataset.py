"""examples/make_dataset.py, at toy size."""

import runpy
import sys
from pathlib import Path

import pytest

from cfworld.data import EpisodeStore
from tests.toy import toy_world

SCRIPT = Path(__file__).parents[2] / "examples" / "make_dataset.py"


@pytest.mark.sources
def test_the_example_makes_two_datasets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_world(horizon_frames=8).save_pretrained(tmp_path / "toy")
    monkeypatch.setattr(sys, "argv", ["make_dataset.py", str(tmp_path / "toy"), str(tmp_path / "out"), "2"])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "out_lerobot: 2 episodes, generated: True" in capsys.readouterr().out
    assert [len(EpisodeStore.open(tmp_path / f"out_{kind}")) for kind in ("minari", "lerobot")] == [2, 2]
