"""Frames enlarged and written on, for people to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from cfworld.envs.rendering import grid, tiled

__all__ = ["MIN_WIDTH", "Caption", "annotate", "annotated_size", "tile", "tiled_size", "upscale"]

_PANEL = 44
_MARGIN = 6
_HAZARD_LEFT, _HAZARD_WIDTH = 100, 8
"""Where the bar of the hazard begins within the margins, and its least width."""
MIN_WIDTH = 2 * _MARGIN + _HAZARD_LEFT + _HAZARD_WIDTH
"""Least width of a picture with a panel."""
_INK = (235, 235, 235)
_DIM = (150, 150, 150)
_GROUND = (24, 24, 28)
_RED = (220, 50, 47)
_AMBER = (230, 160, 40)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caption:
    """What is written on one frame."""

    action: str
    """The action that made the frame."""
    reward: float
    """The reward of the frame."""
    hazard: float
    """The probability, in [0, 1], that the episode ends at the frame."""
    note: str = ""
    """Anything else, such as the time and the episode."""
    banner: str = ""
    """A word across the picture, such as END."""
    marked: bool = False
    """Whether the picture gets a red border."""


def upscale(frame: UInt8[np.ndarray, "H W 3"], scale: int) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Repeat every pixel `scale` times along both axes.

    Args:
        frame: uint8 [H, W, 3].
        scale: a positive integer.

    Returns:
        uint8 [scale * H, scale * W, 3].
    """
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def annotate(frame: UInt8[np.ndarray, "H W 3"], caption: Caption, scale: int = 6) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Enlarge a frame and put a panel with action, reward, hazard and note below it.

    Args:
        frame: uint8 [H, W, 3].
        caption: what to write.
        scale: pixels per pixel, so many that the picture is `MIN_WIDTH` wide; the panel is readable from about 250
            pixels of width.

    Returns:
        uint8 [scale * H + panel, scale * W, 3], its height and width even if `scale` is.
    """
    picture = upscale(frame, scale)
    height, width = picture.shape[:2]
    image = Image.new("RGB", (width, height + _PANEL), _GROUND)
    image.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(image)
    top = height + 4
    draw.text((_MARGIN, top), f"action {caption.action}", _INK, _font(14))
    draw.text((width // 3, top), f"reward {caption.reward:+.2f}", _INK, _font(14))
    draw.text((width - _MARGIN, top), caption.note, _DIM, _font(14), anchor="ra")
    _draw_hazard(draw, caption.hazard, top + 20, width)
    if caption.marked:
        draw.rectangle((0, 0, width - 1, height - 1), outline=_RED, width=6)
    if caption.banner:
        draw.text((width / 2, height / 2), caption.banner, _RED, _font(height // 5), anchor="mm", stroke_width=2)
    return np.asarray(image)


def annotated_size(resolution: tuple[int, int], scale: int) -> tuple[int, int]:
    """Height and width of what `annotate` makes of a frame of this height and width."""
    return scale * resolution[0] + _PANEL, scale * resolution[1]


def tile(pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> UInt8[np.ndarray, "H2 W2 3"]:
    """Lay pictures of one size out on a grid that is about square, row by row.

    Args:
        pictures: uint8 [H, W, 3] each, at least one.

    Returns:
        uint8 [rows * H, columns * W, 3]; places without a picture are dark.
    """
    return tiled(np.stack(pictures)[:, None], _GROUND)[0]


def tiled_size(size: tuple[int, int], num_pictures: int) -> tuple[int, int]:
    """Height and width of what `tile` makes of so many pictures of this height and width."""
    down, across = grid(num_pictures)
    return down * size[0], across * size[1]


def _draw_hazard(draw: ImageDraw.ImageDraw, hazard: float, top: int, width: int) -> None:
    left, right = _MARGIN + _HAZARD_LEFT, width - _MARGIN
    draw.text((_MARGIN, top), f"hazard {hazard:.3f}", _INK, _font(14))
    draw.rectangle((left, top + 3, right, top + 14), outline=_DIM)
    if hazard > 0:
        draw.rectangle((left, top + 3, left + round((right - left) * hazard), top + 14), fill=_AMBER)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
