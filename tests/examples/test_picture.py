"""The script that draws the README's picture runs, in a toy world and from fewer frames."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.toy import toy_world

SCRIPT = Path(__file__).parents[2] / "docs" / "images" / "doom_take_cover.py"


@pytest.mark.sources
def test_the_picture_shows_six_frames_above_their_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    toy_world().save_pretrained(tmp_path / "toy")
    code = SCRIPT.read_text(encoding="utf-8")
    for old, new in (('"doom_take_cover"', '"toy"'), ("range(250, 286, 7)", "range(0, 6)")):
        assert old in code
        code = code.replace(old, new)
    script: dict[str, Any] = {"__name__": "picture"}
    exec(compile(code, str(SCRIPT), "exec"), script)
    script["draw"](tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.size == (3 * 5 * 64, 2 * (5 * 64 + 44))
