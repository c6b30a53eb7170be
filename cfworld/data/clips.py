"""Which clips a training step sees: a pure function of (seed, step), so that resuming needs only the step."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cfworld.errors import DatasetError

__all__ = ["Clip", "ClipSampler"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A piece of an episode.

    Attributes:
        episode: Index of the episode.
        start: First latent.
        length: Latents.
    """

    episode: int
    start: int
    length: int


class ClipSampler:
    """Draws clips in epochs: every possible start of a clip once, in an order of the epoch's own.

    Episodes count in proportion to their clips. An episode shorter than `clip_latents` is one clip, whole.

    Args:
        num_latents: Latents of each episode.
        clip_latents: Latents of a clip.
        seed: Seeds the orders.
        min_latents: Shorter episodes are left out.

    Raises:
        DatasetError: If no episode is long enough.
    """

    def __init__(self, num_latents: Sequence[int], clip_latents: int, seed: int, *, min_latents: int = 1) -> None:
        lengths = np.asarray(num_latents, dtype=np.int64)
        counts = np.where(lengths >= min_latents, np.maximum(lengths - clip_latents, 0) + 1, 0)
        if not counts.sum():
            raise DatasetError(
                f"no episode holds {min_latents} latents; the longest holds {lengths.max(initial=0)}. "
                "Collect longer episodes, or lower min_latents."
            )
        self._lengths, self._clip, self._seed = lengths, clip_latents, seed
        self._last = np.cumsum(counts)

    def __len__(self) -> int:
        """Clips of an epoch."""
        return int(self._last[-1])

    def batch(self, step: int, batch_size: int) -> list[Clip]:
        """The clips of a step; steps run on through the epochs without a seam."""
        return [self._clip_at(position) for position in range(step * batch_size, (step + 1) * batch_size)]

    def _clip_at(self, position: int) -> Clip:
        epoch, place = divmod(position, len(self))
        number = _permuted(place, len(self), self._seed, epoch)
        episode = int(np.searchsorted(self._last, number, side="right"))
        start = number - int(self._last[episode - 1] if episode else 0)
        return Clip(episode=episode, start=start, length=int(min(self._lengths[episode], self._clip)))


def _permuted(place: int, size: int, seed: int, epoch: int) -> int:
    """Entry `place` of a pseudo-random permutation of `size`: a Feistel network that walks its cycle."""
    half = max((size - 1).bit_length() + 1, 2) // 2
    mask = (1 << half) - 1
    keys = np.random.SeedSequence((seed, epoch)).generate_state(4).tolist()
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        place = left << half | right
        if place < size:
            return place


def _mix(word: int) -> int:
    """The finaliser of MurmurHash3 on 32 bits."""
    word &= 0xFFFFFFFF
    word = (word ^ word >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ word >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ word >> 16
