"""`cfworld rollout scenario=`: what it writes, and with which status it leaves."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from PIL import Image

from cfworld.cli import main as cli
from cfworld.cli.rollout import RolloutConfig
from cfworld.data import EpisodeStore
from cfworld.envs import Scenario
from cfworld.errors import ConfigError
from cfworld.world import Ends
from tests.toy import DISCRETE, KINDS, toy_world

TEXT = """\
world: toy
seconds: 1
timeline:
  - policy: sticky
branches:
  - name: goes on
  - name: stays
    fork: 0.4
    timeline:
      - action: stay
assertions:
  - alive: 1
  - check: sum reward of stays > -1000
outputs: [video, strip, json, dataset]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A scenario, and its world beside it."""
    toy_world(actions=DISCRETE, ends=Ends.NEVER).save_pretrained(tmp_path / "toy")
    (tmp_path / "play.yaml").write_text(TEXT)
    return tmp_path / "play.yaml"


def leave(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command, and say with which status it leaves."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    try:
        cli.main(["rollout", *arguments])
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_scale_that_gives_no_video_is_refused_before_anything_is_played(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Scenario, "run", lambda *_, **__: pytest.fail("played"))
    assert leave(monkeypatch, f"scenario={file}", "scale=1", f"out={file.parent / 'out'}") == 2
    assert "got scale=1 for 2 frame(s)" in capsys.readouterr().err
    assert not (file.parent / "out").exists()


@pytest.mark.parametrize("taken", ["outputs", "out/dataset"])
def test_a_file_where_a_folder_goes_is_refused_before_anything_is_played(
    taken: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Scenario, "run", lambda *_, **__: pytest.fail("played"))
    monkeypatch.chdir(file.parent)
    Path(taken).parent.mkdir(exist_ok=True)
    Path(taken).write_text("")
    assert leave(monkeypatch, f"scenario={file}", *(["out=out"] if "/" in taken else [])) == 2
    assert f"{taken}' is no folder; choose another folder with out=" in capsys.readouterr().err


def test_it_leaves_what_the_scenario_asks_for_and_status_0(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = file.parent / "out"
    assert leave(monkeypatch, f"scenario={file}", f"out={out}", "scale=5") == 0
    assert "3 of 3 assertions hold" in capsys.readouterr().out
    figures = json.loads((out / "scenario.json").read_text())
    assert figures["passed"]
    assert [(one["name"], one["frames"], one["fork"]) for one in figures["branches"]] == [
        ("goes on", 10, 0.0),
        ("stays", 10, 0.4),
    ]
    assert figures["branches"][1]["actions"][4:] == ["stay"] * 6
    reader = subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(out / "scenario.mp4"), "-f", "rawvideo", "-pix_fmt", "gray", "-"],
        capture_output=True,
        check=True,
    )
    assert len(reader.stdout) == 10 * (2 * 320) * (320 + 44)  # side by side
    with Image.open(out / "scenario.png") as strip:
        assert strip.height > 2 * 128
    assert len(EpisodeStore.open(out / "dataset")) == 2
    assert (out / "scenario.yaml").read_text() == TEXT


def test_an_assertion_that_fails_makes_it_leave_with_status_1_and_a_table(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TEXT.replace("- alive: 1", "- ended: 1").replace("[video, strip, json, dataset]", "[json]"))
    out = file.parent / "out"
    assert leave(monkeypatch, f"scenario={file}", f"out={out}", "seed=3") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["FAILED", "ended", "by", "1", "s", "goes", "on", "alive", "at", "1.0", "s"]
    assert lines[3].startswith("held")
    assert lines[4] == "1 of 3 assertions hold"
    assert json.loads((out / "scenario.json").read_text())["seed"] == 3
    assert sorted(path.name for path in out.iterdir()) == ["config.yaml", "scenario.json", "scenario.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("alive: 1", "alife: 1", "play.yaml:12: assertions[0].alife: got an unknown key; expected one of alive, ended"),
        ("action: stay", "action: jump", "play.yaml:10: branches[1].timeline[0].action: got action 'jump'; expected"),
    ],
)
def test_a_broken_file_makes_it_leave_with_status_2_and_one_line(
    old: str, new: str, said: str, file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TEXT.replace(old, new))
    assert leave(monkeypatch, f"scenario={file}", f"out={file.parent / 'out'}") == 2
    errors = capsys.readouterr().err
    assert errors.startswith("cfworld: error: ")
    assert said in errors
    assert errors.count("\n") == 1
    assert not (file.parent / "out").exists()


def test_the_world_of_the_command_line_takes_the_place_of_the_files(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(TEXT.replace("world: toy", "world: nowhere").replace("[video, strip, json, dataset]", "[json]"))
    assert leave(monkeypatch, f"scenario={file}", f"out={file.parent / 'out'}") == 2
    assert "play.yaml:1: world: there is no world 'nowhere'" in capsys.readouterr().err
    assert leave(monkeypatch, f"scenario={file}", f"world={file.parent / 'toy'}", f"out={file.parent / 'out'}") == 0


@pytest.mark.parametrize("beside", [{"frames": 10}, {"worlds": 2}, {"policy": "sweep"}])
def test_what_the_scenario_decides_is_refused_beside_it(beside: dict[str, Any]) -> None:
    (name,) = beside
    with pytest.raises(ConfigError, match=f"got {name}=.* beside scenario=dodge, .*leave {name} out"):
        RolloutConfig(scenario="dodge", **beside)


def test_a_dataset_of_texts_is_refused_by_line(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_world(actions=KINDS["text"]).save_pretrained(file.parent / "talk")
    file.write_text("world: talk\nseconds: 1\ntimeline:\n  - text: go\noutputs: [dataset]\n")
    assert leave(monkeypatch, f"scenario={file}", f"out={file.parent / 'out'}") == 2
    assert "play.yaml:5: outputs: got dataset" in capsys.readouterr().err


@pytest.mark.parametrize("policy", ["sweep:3", "sweep", "random"])
def test_a_scenario_plays_the_same_by_command_and_from_python(
    policy: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file.parent / "3").mkdir()  # no file is looked for beside the scenario
    file.write_text(f"world: toy\nseconds: 1\ntimeline:\n  - policy: {policy}\noutputs: [json]\n")
    out = file.parent / "out"
    assert leave(monkeypatch, f"scenario={file}", f"out={out}") == 0
    by_command = json.loads((out / "scenario.json").read_text())["branches"][0]["actions"]
    branch = Scenario.load(file).run().branches[0]
    assert list(branch.labels) == by_command
    if policy == "sweep:3":
        one, other = by_command[0], by_command[3]
        assert by_command == [one] * 3 + [other] * 3 + [one] * 3 + [other]
