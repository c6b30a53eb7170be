"""`cfworld import-wan`: files in, a world's folder out."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from cfworld import World
from cfworld.cli import main as cli
from tests.wan_toy import pipeline_folder

SMALL = "resolution=[16,16] num_tokens=6 memory.num_slow=2"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("wan"))


def test_a_pipeline_becomes_a_world_of_named_actions(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", sys.argv)
    actions = "actions={look left:the camera turns left,wait:the sky darkens}"
    parts = [f"{part}={pipeline}" for part in ("transformer", "vae", "text_encoder")]
    cli.main(["import-wan", *parts, actions, *SMALL.split(), f"out={tmp_path}"])
    world = World.from_pretrained(tmp_path)
    figures = json.loads((tmp_path / "import-wan.json").read_text())
    assert figures["parameters"] == sum(value.numel() for value in world.generator.transformer.parameters())
    assert (figures["frames_per_step"], figures["memory_slots"], figures["resolution"]) == (12, 8, [16, 16])
    settings = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert settings["actions"] == {"look left": "the camera turns left", "wait": "the sky darkens"}
    assert settings["memory"]["num_fast"] == 6
    state, frames = world.initial([0])
    assert frames.shape == (1, 12, 16, 16, 3)
    assert not torch.equal(world.step(state, ["look left"])[1].latents, world.step(state, ["wait"])[1].latents)


def test_what_does_not_fit_is_refused_in_one_line(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit) as left:
        cli.main(["import-wan", f"transformer={pipeline / 'vae'}", f"vae={pipeline}", SMALL.split()[0]])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "holds no transformer of Wan" in error
    assert error.count("\n") == 1


def test_a_folder_that_holds_another_world_is_left_as_it_is(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", sys.argv)
    arguments = ["import-wan", f"transformer={pipeline}", f"vae={pipeline}", *SMALL.split(), f"out={tmp_path}"]
    cli.main(arguments)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(SystemExit):
        cli.main([*arguments, "name=other"])
    assert "holds the world 'wan'; got 'other' to save there" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
