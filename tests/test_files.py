import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cfworld.files import UNFINISHED, discard_unfinished, write_aside, write_json, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    write_text(path, "first")

    def fail_half_way() -> None:
        with write_aside(path) as aside:
            aside.write_text("half")
            assert path.read_text() == "first"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_half_way()
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]


def test_of_hidden_files_only_unfinished_ones_are_discarded(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".python-version", ".pre-commit-config.yaml", ".my-notes")]
    for path in theirs[:2]:
        path.touch()
    theirs[2].mkdir()
    with write_aside(tmp_path / "a.txt") as aside:
        assert aside.name.startswith(UNFINISHED)
        discard_unfinished(tmp_path)
        assert not aside.exists()
        aside.touch()
    assert sorted(tmp_path.iterdir()) == sorted([*theirs, tmp_path / "a.txt"])


def test_figures_become_plain_json(tmp_path: Path) -> None:
    figures = {
        "a": np.float32(0.5),
        "b": torch.tensor([1, 2]),
        "c": (np.int64(3), float("nan")),
        "d": Path("x"),
    }
    write_json(tmp_path / "f.json", figures)
    assert json.loads((tmp_path / "f.json").read_text()) == {"a": 0.5, "b": [1, 2], "c": [3, None], "d": "x"}
