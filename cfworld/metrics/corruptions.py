"""Ways in which real frames stop being real: what a novelty score must tell from them."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import UInt8

from cfworld.metrics.images import blurred

__all__ = ["CORRUPTIONS", "FIRST_STEP_ONLY", "Corruption"]

Frames = UInt8[np.ndarray, "B S F H W 3"]
"""B episodes of S steps of F frames."""
Corruption = Callable[[Frames], Frames]

NOISE = 32.0
"""Standard deviation of the noise, in levels of 255."""


def pasted(frames: Frames) -> Frames:
    """The middle half of the picture, in width and height, from another episode."""
    height, width = frames.shape[3:5]
    rows, columns = slice(height // 4, height - height // 4), slice(width // 4, width - width // 4)
    mixed = frames.copy()
    mixed[..., rows, columns, :] = foreign(frames)[..., rows, columns, :]
    return mixed


def noisy(frames: Frames) -> Frames:
    """White noise on every frame."""
    noise = np.random.default_rng(0).normal(0, NOISE, frames.shape)
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


def frozen(frames: Frames) -> Frames:
    """A picture that stands still for each step: the one before it, the first step's own first."""
    last = np.concatenate([frames[:, :1, 0], frames[:, :-1, -1]], axis=1)
    return np.repeat(last[:, :, None], frames.shape[2], axis=2)


def shuffled(frames: Frames) -> Frames:
    """The frames of every step in another order, the same for all: 2 0 3 1 of four."""
    half = frames.shape[2] // 2
    early, late = np.arange(half), np.arange(half, frames.shape[2])
    return frames[:, :, np.concatenate([np.stack([late[:half], early], axis=1).ravel(), late[half:]])]


def recoloured(frames: Frames) -> Frames:
    """Red, green and blue exchanged in a circle."""
    return frames[..., [1, 2, 0]]


def grey(frames: Frames) -> Frames:
    """No colour."""
    return np.repeat(frames.mean(axis=-1, keepdims=True), 3, axis=-1).astype(np.uint8)


def black(frames: Frames) -> Frames:
    """Nothing at all."""
    return np.zeros_like(frames)


def foreign(frames: Frames) -> Frames:
    """Another episode from the same moment on; its own actions are lost."""
    return np.roll(frames, 1, axis=0)


CORRUPTIONS: Mapping[str, Corruption] = {
    "pasted": pasted,
    "noisy": noisy,
    "blurred": blurred,
    "frozen": frozen,
    "shuffled": shuffled,
    "recoloured": recoloured,
    "grey": grey,
    "black": black,
    "cut": foreign,
}
"""The corruptions by name."""

FIRST_STEP_ONLY = frozenset({"cut"})
"""What is real again after its first step."""
