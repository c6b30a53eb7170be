"""`cfworld assemble`: two exports in, one folder with both out."""

from pathlib import Path

import pytest
import torch

from cfworld import World
from cfworld.cli import main as cli
from cfworld.cli.assemble import AssembleConfig, assemble
from cfworld.errors import CheckpointError, ConfigError
from tests.toy import toy_world


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, str]:
    """Exports of a teacher, and of a student with other weights."""
    world = toy_world()
    paths = {}
    for variant in ("teacher", "student"):
        world.variant = variant
        world.generator.transformer.patch_embedding.weight.data += 1
        world.save_pretrained(tmp_path / variant)
        paths[variant] = str(tmp_path / variant)
    return paths


def weights(folder: str | Path, variant: str) -> torch.Tensor:
    return World.from_pretrained(folder, variant=variant).generator.transformer.patch_embedding.weight


def test_either_variant_comes_out_of_the_folder(parts: dict[str, str], tmp_path: Path):
    out = tmp_path / "worlds" / "both"
    figures = assemble(AssembleConfig(**parts, out=str(out)))
    for variant, folder in parts.items():
        assert torch.equal(weights(out, variant), weights(folder, variant))
        assert figures[variant] == World.from_pretrained(folder, variant=variant, precision="bf16").fingerprint
    assert not torch.equal(weights(out, "teacher"), weights(out, "student"))
    assert [path.name for path in out.parent.iterdir()] == ["both"]


def test_an_empty_folder_is_filled_and_another_is_left_alone(parts: dict[str, str], tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assemble(AssembleConfig(**parts, out=str(tmp_path / "empty")))
    with pytest.raises(ConfigError, match="something already; expected a new or an empty folder"):
        assemble(AssembleConfig(**parts, out=str(tmp_path / "empty")))


def test_the_folder_that_one_stands_in_is_filled(
    parts: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assemble(AssembleConfig(**parts, out="."))
    assert (tmp_path / "here" / "assemble.json").is_file()
    assert not torch.equal(weights(tmp_path / "here", "teacher"), weights(tmp_path / "here", "student"))


def test_variants_of_different_worlds_leave_nothing_behind(parts: dict[str, str], tmp_path: Path):
    other = toy_world(fps=7)
    other.variant = "student"
    other.save_pretrained(tmp_path / "other")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match=r"differs in world\.fps"):
        assemble(AssembleConfig(teacher=parts["teacher"], student=str(tmp_path / "other"), out=str(tmp_path / "both")))
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_without_the_variant_is_refused_in_one_line(
    parts: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sys.argv", ["cfworld"])
    teacher = parts["teacher"]
    with pytest.raises(SystemExit) as left:
        cli.main(["assemble", f"teacher={teacher}", f"student={teacher}", f"out={tmp_path / 'both'}"])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert "has no variant 'student'; it has ['teacher']" in error
    assert error.count("\n") == 1
