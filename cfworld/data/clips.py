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

    Episodes count in proportion to their clips. An episode shorter than `clip_latents` is one clip, whole; with
    `shortest`, clips also start where fewer latents follow, and are cut at the end of their episode.

    So the last latents of an episode are drawn less often than others, and its end least of all: once where others
    are drawn `clip_latents` times. What is learnt of the look of things does not mind; the rate of ends needs `even`.

    Args:
        num_latents: Latents of each episode.
        clip_latents: Latents of a clip.
        seed: Seeds the orders.
        min_latents: Shorter episodes are left out.
        shortest: Latents that follow a start at least; None for `clip_latents`.
        even: Let clips also reach over the beginnings and ends of episodes, where they are cut: then every latent is
            drawn equally often.

    Raises:
        DatasetError: If no episode is long enough.
    """

    def __init__(
        self,
        num_latents: Sequence[int],
        clip_latents: int,
        seed: int,
        *,
        min_latents: int = 1,
        shortest: int | None = None,
        even: bool = False,
    ) -> None:
        lengths = np.asarray(num_latents, dtype=np.int64)
        least = clip_latents if shortest is None else min(shortest, clip_latents)
        clips = lengths + clip_latents - 1 if even else np.maximum(lengths - least, 0) + 1
        counts = np.where(lengths >= min_latents, clips, 0)
        if not counts.sum():
            raise DatasetError(
                f"no episode holds {min_latents} latents; the longest holds {lengths.max(initial=0)}. "
                "Collect longer episodes, or lower min_latents."
            )
        self._lengths, self._clip, self._seed = lengths, clip_latents, seed
        self._last = np.cumsum(counts)
        self._before = clip_latents - 1 if even else 0

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
        start = number - int(self._last[episode - 1] if episode else 0) - self._before
        end = min(start + self._clip, int(self._lengths[episode]))
        return Clip(episode=episode, start=max(start, 0), length=end - max(start, 0))


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
