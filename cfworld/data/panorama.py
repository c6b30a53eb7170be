"""Panorama: a camera pans over a ring of tiles that is drawn anew for every episode.

Columns of the ring are counted in pixels to the right; a heading is the column at the centre of the view,
between two pixels. From top to bottom a frame shows a compass (its hue tells the absolute column and is the
same in every episode), the wall of tiles, and the floor. Exactly one tile is the beacon.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64, Int64, UInt8
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["NUM_ACTIONS", "Panorama", "Ring", "draw_ring", "offset", "read_heading"]

NUM_ACTIONS = 3
PAN = (0, -2, 2)
"""Pixels that the camera pans per tick, by action: stay, left, right."""

FRAME_SIZE = 64
COMPASS_HEIGHT = 8
WALL_HEIGHT = 44
NUM_TILES = 16
TILE_WIDTH = 16
CIRCUMFERENCE = NUM_TILES * TILE_WIDTH

CENTRED = 8
"""The beacon is centred while its centre is at most this many pixels from the view's centre."""
TICKS_TO_FIND = 8
"""Consecutive ticks of staying with the beacon centred that end an episode."""

GLYPH_SIZE = 12
GLYPH_TOPS = (4, 16, 28)
BEACON_SIZE = 16
SUPERSAMPLING = 4

BACKGROUNDS = (
    (206, 62, 58),
    (236, 140, 48),
    (238, 208, 84),
    (112, 170, 66),
    (42, 150, 140),
    (104, 186, 232),
    (58, 84, 184),
    (148, 82, 176),
    (236, 150, 186),
)
INKS = (*BACKGROUNDS, (250, 246, 236), (38, 36, 58))
MIN_CONTRAST = 70.0
"""Smallest difference of luma between a glyph and its background."""
BEACON_BACKGROUND = (8, 8, 12)
BEACON_INK = (255, 244, 150)
FLOOR_FAR, FLOOR_NEAR = (122, 104, 90), (44, 38, 40)


@dataclass(frozen=True, kw_only=True, slots=True)
class Ring:
    """The scenery of one episode."""

    image: UInt8[np.ndarray, "H W 3"]
    """The whole ring, uint8 [64, 256, 3]."""
    beacon: int
    """Column of the beacon's centre, in [0, 256)."""


def offset(column: int, heading: int) -> int:
    """Signed distance around the ring from a heading to a column, in [-128, 128) pixels."""
    return (column - heading + CIRCUMFERENCE // 2) % CIRCUMFERENCE - CIRCUMFERENCE // 2


def read_heading(frames: UInt8[np.ndarray, "*batch 64 64 3"]) -> Int64[np.ndarray, "*batch"]:
    """Headings of frames in pixels, in [0, 256), by the nearest of all views of the compass.

    Args:
        frames: frames as `Panorama.frame` gives them, or as a world paints them.
    """
    compass = np.concatenate([_scenery(), _scenery()], axis=1)[:COMPASS_HEIGHT].mean(axis=0)
    views = sliding_window_view(compass, FRAME_SIZE, axis=0)[:CIRCUMFERENCE].reshape(CIRCUMFERENCE, -1)
    seen = np.swapaxes(frames[..., :COMPASS_HEIGHT, :, :].mean(axis=-3), -1, -2)
    products = seen.reshape(*seen.shape[:-2], -1) @ views.T
    left = ((views**2).sum(axis=1) - 2 * products).argmin(axis=-1)
    return (left + FRAME_SIZE // 2) % CIRCUMFERENCE


class Panorama:
    """One episode, a pure function of the seed and the actions.

    Args:
        seed: names the ring, the beacon and the initial heading (from which the beacon cannot be seen).
        god: when true, the episode never ends.
    """

    def __init__(self, seed: int, god: bool = False):
        rng = np.random.default_rng(seed)
        ring = draw_ring(rng)
        hidden = (FRAME_SIZE + TILE_WIDTH) // 2
        self.ring = ring
        self.heading = int(ring.beacon + rng.integers(hidden, CIRCUMFERENCE - hidden + 1)) % CIRCUMFERENCE
        """Column at the centre of the view, in [0, 256)."""
        self.stayed = 0
        """Consecutive ticks of staying with the beacon centred."""
        self._god = god
        self._unrolled = np.concatenate([ring.image, ring.image[:, :FRAME_SIZE]], axis=1)

    @property
    def centred(self) -> bool:
        """Whether the beacon is centred now."""
        return abs(offset(self.ring.beacon, self.heading)) <= CENTRED

    def frame(self) -> UInt8[np.ndarray, "H W 3"]:
        """The view now, uint8 [64, 64, 3]."""
        left = (self.heading - FRAME_SIZE // 2) % CIRCUMFERENCE
        return self._unrolled[:, left : left + FRAME_SIZE].copy()

    def tick(self, action: int) -> tuple[float, bool]:
        """Pan, then look.

        Args:
            action: 0 stay, 1 left, 2 right.

        Returns:
            The reward, 1 while the beacon is centred and else 0; and whether the beacon has been found.
        """
        self.heading = (self.heading + PAN[action]) % CIRCUMFERENCE
        centred = self.centred
        self.stayed = self.stayed + 1 if centred and action == 0 else 0
        return float(centred), self.stayed >= TICKS_TO_FIND and not self._god

    def variables(self) -> dict[str, float]:
        """Heading and beacon in pixels, the heading in degrees too, and the ticks stayed so far."""
        return {
            "HEADING": float(self.heading),
            "ANGLE": self.heading * 360.0 / CIRCUMFERENCE,
            "BEACON": float(self.ring.beacon),
            "STAYED": float(self.stayed),
        }


def draw_ring(rng: np.random.Generator) -> Ring:
    """Draw a ring in which neighbouring tiles have different backgrounds.

    Args:
        rng: the source of the draw.

    Returns:
        The ring with its beacon.
    """
    image = _scenery().copy()
    wall = image[COMPASS_HEIGHT : COMPASS_HEIGHT + WALL_HEIGHT]
    beacon_tile = int(rng.integers(NUM_TILES))
    first = previous = -1
    for tile in range(NUM_TILES):
        columns = wall[:, tile * TILE_WIDTH : (tile + 1) * TILE_WIDTH]
        if tile == beacon_tile:
            top = (WALL_HEIGHT - BEACON_SIZE) // 2
            _paint(columns, BEACON_BACKGROUND, BEACON_INK, _coverage("star", BEACON_SIZE), top)
            previous = -1
            continue
        taken = {previous, first} if tile == NUM_TILES - 1 else {previous}
        background = int(rng.choice([b for b in range(len(BACKGROUNDS)) if b not in taken]))
        ink = INKS[rng.choice(_inks(background))]
        glyph = GLYPHS[rng.integers(len(GLYPHS))]
        top = GLYPH_TOPS[rng.integers(len(GLYPH_TOPS))]
        _paint(columns, BACKGROUNDS[background], ink, _coverage(glyph, GLYPH_SIZE), top)
        first = background if tile == 0 else first
        previous = background
    return Ring(image=image, beacon=beacon_tile * TILE_WIDTH + TILE_WIDTH // 2)


Colour = tuple[int, int, int]


def _paint(columns: np.ndarray, background: Colour, ink: Colour, coverage: np.ndarray, top: int) -> None:
    size = len(coverage)
    left = (TILE_WIDTH - size) // 2
    alpha = coverage[..., None]
    columns[:] = background
    columns[top : top + size, left : left + size] = np.rint((1 - alpha) * np.array(background) + alpha * np.array(ink))


@cache
def _scenery() -> UInt8[np.ndarray, "H W 3"]:
    """Compass and floor, the same in every episode; the wall is left black."""
    image = np.zeros((FRAME_SIZE, CIRCUMFERENCE, 3), np.uint8)
    hues = [colorsys.hsv_to_rgb((column + 0.5) / CIRCUMFERENCE, 0.85, 1.0) for column in range(CIRCUMFERENCE)]
    image[:COMPASS_HEIGHT] = np.rint(np.array(hues) * 255)
    floor = image[COMPASS_HEIGHT + WALL_HEIGHT :]
    depth = np.linspace(0, 1, len(floor))[:, None]
    floor[:] = np.rint((1 - depth) * np.array(FLOOR_FAR) + depth * np.array(FLOOR_NEAR))[:, None]
    return image


@cache
def _inks(background: int) -> tuple[int, ...]:
    """Indices of the inks that stand out from a background."""
    luma = np.array(INKS) @ np.array([0.299, 0.587, 0.114])
    return tuple(np.flatnonzero(np.abs(luma - luma[background]) >= MIN_CONTRAST).tolist())


@cache
def _coverage(glyph: str, size: int) -> Float64[np.ndarray, "S S"]:
    """How much of each pixel a glyph covers, in [0, 1]."""
    points = (np.arange(size * SUPERSAMPLING) + 0.5) / (size * SUPERSAMPLING) * 2 - 1
    x, y = np.meshgrid(points, points)
    inside = SHAPES[glyph](x, y).astype(np.float64)
    return inside.reshape(size, SUPERSAMPLING, size, SUPERSAMPLING).mean(axis=(1, 3))


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(x) ** 0.7 + np.abs(y) ** 0.7 <= 1.1


# Each shape fills [-1, 1] x [-1, 1], y downwards; with glyphs of 12 pixels a third is 4 pixels.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "blank": lambda x, y: np.zeros_like(x, bool),
    "disc": lambda x, y: np.hypot(x, y) <= 1,
    "ring": lambda x, y: (np.hypot(x, y) <= 1) & (np.hypot(x, y) >= 0.4),
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.84,
    "cross": lambda x, y: np.minimum(np.abs(x), np.abs(y)) <= 1 / 3,
    "saltire": lambda x, y: np.abs(np.abs(x) - np.abs(y)) <= 0.42,
    "triangle": lambda x, y: np.abs(x) <= (y + 1) / 2,
    "bars": lambda x, y: np.abs(y) >= 1 / 3,
    "posts": lambda x, y: np.abs(x) >= 1 / 3,
    "star": _star,
}
GLYPHS = tuple(name for name in SHAPES if name != "star")
