from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cfworld.errors import ShapeError
from cfworld.export.video import can_be_encoded, write_video
from tests.export.video_tools import read


def test_a_video_keeps_its_frames_its_rate_and_roughly_its_colours(tmp_path: Path) -> None:
    levels = np.array([20, 90, 160, 230], np.uint8)
    write_video(tmp_path / "v.mp4", (np.full((32, 48, 3), level, np.uint8) for level in levels), fps=35)
    said, frames = read(tmp_path / "v.mp4", 32, 48)
    assert "h264" in said
    assert "yuv420p" in said
    assert " 35 fps" in said
    assert frames.shape == (4, 32, 48, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - levels).max() < 4


def test_a_video_that_fails_half_way_leaves_no_file(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield np.zeros((32, 32, 3), np.uint8)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_video(tmp_path / "v.mp4", frames(), fps=10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(64, 16384, True), (64, 16386, False), (16384, 16384, False), (63, 64, False), (64, 63, False), (2, 2, True)],
)
def test_a_video_has_even_sides_and_a_greatest_size(height: int, width: int, expected: bool, tmp_path: Path) -> None:
    assert can_be_encoded(height, width) is expected
    if not expected:
        with pytest.raises(ShapeError, match=rf"got frames of {height} x {width} pixels; .* at most 16384"):
            write_video(tmp_path / "video.mp4", [np.zeros((height, width, 3), np.uint8)], 10)
        assert list(tmp_path.iterdir()) == []


def test_odd_sizes_and_changing_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="even"):
        write_video(tmp_path / "v.mp4", [np.zeros((31, 32, 3), np.uint8)], fps=10)
    with pytest.raises(ShapeError, match="like the first"):
        write_video(tmp_path / "v.mp4", [np.zeros((s, 32, 3), np.uint8) for s in (32, 34)], fps=10)
