"""How environments show frames, and a window for them; pygame is imported only when one opens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cfworld.errors import MissingDependencyError

__all__ = ["RENDER_MODES", "Keys", "Screen", "Window", "grid", "tiled"]

RENDER_MODES = ["rgb_array", "rgb_array_list", "human"]
"""What `render_mode` may be, besides None: the last frame, all frames of the step, or a window."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Keys:
    """What the player did since the window was last asked, keys by pygame's names: "left", "a", "escape"."""

    held: frozenset[str] = frozenset()
    """Keys that are down now."""
    pressed: tuple[str, ...] = ()
    """Keys that went down, in their order."""
    closed: bool = False
    """Whether the window was asked to close."""


class Window:
    """Shows frames enlarged, at a steady rate.

    Args:
        title: the window's title.
        resolution: height and width of a frame in pixels.
        fps: frames per second; `show` waits so that this rate is not exceeded.
        scale: window pixels per frame pixel.

    Raises:
        MissingDependencyError: if pygame is not installed.
    """

    def __init__(self, title: str, resolution: tuple[int, int], fps: int | float, scale: int = 8):
        try:
            import pygame
        except ImportError as error:
            raise MissingDependencyError.with_hint("a window", "pygame-ce", "render") from error
        self._pygame: Any = pygame
        self._fps = fps
        pygame.display.init()
        pygame.display.set_caption(title)
        self._surface = pygame.display.set_mode((resolution[1] * scale, resolution[0] * scale))
        self._clock = pygame.time.Clock()
        self._down: set[str] = set()

    @property
    def is_seen(self) -> bool:
        """Whether it is on a screen: where there is none, SDL draws into memory instead."""
        return self._pygame.display.get_driver() not in ("dummy", "offscreen")

    def has_key(self, name: str) -> bool:
        """Whether a key has this name, written just so."""
        try:
            return self._pygame.key.name(self._pygame.key.key_code(name)) == name
        except ValueError:
            return False

    def show(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Draw one frame, uint8 [H, W, 3], and wait for its turn."""
        pygame = self._pygame
        image = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._surface.blit(pygame.transform.scale(image, self._surface.get_size()), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._fps)

    def keys(self) -> Keys:
        """Read the keyboard; keys that went down and up again since the last call count as held for once."""
        pygame = self._pygame
        events = pygame.event.get()
        pressed = tuple(pygame.key.name(event.key) for event in events if event.type == pygame.KEYDOWN)
        for event in events:
            if event.type == pygame.KEYDOWN:
                self._down.add(pygame.key.name(event.key))
            if event.type == pygame.KEYUP:
                self._down.discard(pygame.key.name(event.key))
        closed = any(event.type == pygame.QUIT for event in events)
        return Keys(held=frozenset(self._down) | frozenset(pressed), pressed=pressed, closed=closed)

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()


class Screen:
    """A window that opens when there is something to show.

    Args:
        title: the window's title.
        fps: frames per second.
    """

    def __init__(self, title: str, fps: int | float):
        self._title = title
        self._fps = fps
        self._window: Window | None = None

    def show(self, frames: UInt8[np.ndarray, "F H W 3"] | Sequence[np.ndarray], scale: int = 8) -> None:
        """Draw frames one after the other.

        Args:
            frames: uint8 [F, H, W, 3], or F of [H, W, 3]; always of the same size.
            scale: window pixels per frame pixel, if the window opens now.

        Raises:
            MissingDependencyError: if pygame is not installed.
        """
        for frame in frames:
            if self._window is None:
                self._window = Window(self._title, frame.shape[:2], self._fps, scale)
            self._window.show(frame)

    def close(self) -> None:
        """Close the window, if it is open."""
        if self._window is not None:
            self._window.close()
            self._window = None


def tiled(
    frames: UInt8[np.ndarray, "B F H W 3"], ground: tuple[int, int, int] = (0, 0, 0)
) -> UInt8[np.ndarray, "F R C 3"]:
    """The frames of many rows in one picture each, nearly square.

    Args:
        frames: uint8 [B, F, H, W, 3].
        ground: red, green and blue where there are no more rows.

    Returns:
        uint8 [F, R H, C W, 3], row after row.
    """
    rows, num_frames, height, width, _ = frames.shape
    down, across = grid(rows)
    places = np.full((down * across, *frames.shape[1:]), ground, np.uint8)
    places[:rows] = frames
    places = places.reshape(down, across, num_frames, height, width, 3).transpose(2, 0, 3, 1, 4, 5)
    return places.reshape(num_frames, down * height, across * width, 3)


def grid(num_pictures: int) -> tuple[int, int]:
    """Rows and columns of a grid that is about square and has a place for each picture."""
    across = int(np.ceil(np.sqrt(num_pictures)))
    return -(-num_pictures // across), across
