"""Film strips: frames side by side, with the time above and a name beside every row."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from cfworld import files

__all__ = ["film_strip", "write_film_strip"]

_GAP = 2
_HEADER = 16
_INK = (40, 40, 40)


def film_strip(
    rows: Mapping[str, UInt8[np.ndarray, "N H W 3"]], labels: Sequence[str], scale: int = 2
) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Lay frames out as rows of a strip.

    Args:
        rows: uint8 [N, H, W, 3] by the row's name; the names stand on the left, unless all are empty.
        labels: N texts above the columns, such as "1.5 s".
        scale: pixels per pixel.

    Returns:
        The picture.
    """
    font = ImageFont.load_default(12)
    margin = max(round(font.getlength(name)) + 2 * _GAP * bool(name) for name in rows)
    frames = next(iter(rows.values()))
    cell_height, cell_width = (scale * size + _GAP for size in frames.shape[1:3])
    size = (margin + len(labels) * cell_width, _HEADER + len(rows) * cell_height)
    image = Image.new("RGB", size, (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for column, label in enumerate(labels):
        draw.text((margin + column * cell_width, 1), label, _INK, font)
    for row, (name, strip) in enumerate(rows.items()):
        top = _HEADER + row * cell_height
        draw.text((_GAP, top + cell_height // 2), name, _INK, font, anchor="lm")
        for column, frame in enumerate(strip):
            cell = Image.fromarray(frame.repeat(scale, axis=0).repeat(scale, axis=1))
            image.paste(cell, (margin + column * cell_width, top))
    return np.asarray(image)


def write_film_strip(
    path: str | Path, rows: Mapping[str, UInt8[np.ndarray, "N H W 3"]], labels: Sequence[str], scale: int = 2
) -> None:
    """Write a film strip as PNG; the arguments are those of `film_strip`."""
    with files.write_aside(path) as aside:
        Image.fromarray(film_strip(rows, labels, scale)).save(aside)
