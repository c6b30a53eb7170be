from pathlib import Path

import numpy as np
from PIL import Image

from cfworld.export.film_strip import write_film_strip


def test_a_film_strip_shows_every_frame_once(tmp_path: Path) -> None:
    rows = {"": np.stack([np.full((8, 8, 3), 10 * column, np.uint8) for column in range(1, 4)])}
    write_film_strip(tmp_path / "strip.png", rows, ["0 s", "1 s", "2 s"], scale=2)
    picture = np.asarray(Image.open(tmp_path / "strip.png"))
    for column in range(1, 4):
        assert (picture == 10 * column).all(axis=-1).sum() == 16 * 16
