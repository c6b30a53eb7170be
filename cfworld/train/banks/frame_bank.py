"""All frames of a dataset in one array, and blocks of frames drawn from it."""

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8

from cfworld.advice import advise
from cfworld.data.episode import Episode
from cfworld.errors import DatasetError

__all__ = ["EpisodeSource", "FrameBank"]

_GRAIN_BATCH = 2048


@runtime_checkable
class EpisodeSource(Protocol):
    """What is read of an `EpisodeStore`."""

    @property
    def lengths(self) -> Int64[np.ndarray, " E"]:
        """Ticks of each episode."""
        ...

    def episode(self, index: int) -> Episode:
        """Read one episode."""
        ...


class FrameBank:
    """Blocks of consecutive frames out of episodes, at any alignment.

    A block starts at any frame but the reset frame, which belongs to no latent, and never crosses episodes.

    Args:
        frames: Frames of all episodes, one after the other.
        lengths: Frames of each episode, its reset frame included.
        block: Frames of a block.

    Raises:
        DatasetError: If no episode is long enough for a block.
    """

    def __init__(self, frames: UInt8[np.ndarray, "K H W 3"], lengths: Int64[np.ndarray, " E"], block: int) -> None:
        self.frames = frames
        self.block = block
        self._bases = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        self._ends = np.cumsum(np.maximum(lengths - block, 0))
        if len(lengths) == 0 or self._ends[-1] == 0:
            raise DatasetError(
                f"got {len(lengths)} episodes, none longer than {block} frames; expected at least one. "
                "Collect longer episodes."
            )

    @classmethod
    def read(cls, source: EpisodeSource, block: int, max_gigabytes: float, seed: int) -> "FrameBank":
        """Read episodes into memory.

        Args:
            source: The dataset.
            block: Frames of a block.
            max_gigabytes: If the frames need more, a random part of the episodes is read, with a warning.
            seed: Chooses that part.

        Raises:
            DatasetError: If an episode holds another number of frames than the dataset says.
        """
        lengths = np.asarray(source.lengths, dtype=np.int64) + 1
        first = source.episode(0).frames
        chosen = _fitting(lengths, first[0].nbytes, max_gigabytes, seed)
        if len(chosen) < len(lengths):
            advise(
                f"The frames exceed max_gigabytes={max_gigabytes}; {len(chosen)} of {len(lengths)} episodes "
                "are used. Raise the limit to use all."
            )
        lengths = lengths[chosen]
        frames = np.empty((int(lengths.sum()), *first.shape[1:]), dtype=np.uint8)
        base = 0
        for index, length in zip(chosen, lengths, strict=True):
            episode = source.episode(int(index)).frames
            if episode.shape != (length, *first.shape[1:]):
                raise DatasetError(
                    f"got frames of shape {episode.shape} in episode {index}; expected "
                    f"{(int(length), *first.shape[1:])}. The dataset is damaged: collect it again."
                )
            frames[base : base + length] = episode
            base += int(length)
        return cls(frames, lengths, block)

    def __len__(self) -> int:
        """Count the blocks."""
        return int(self._ends[-1])

    def draw(self, rng: np.random.Generator, count: int) -> UInt8[np.ndarray, "B G H W 3"]:
        """Draw random blocks, each preceded by the frame before it.

        Args:
            rng: Source of randomness.
            count: Number of blocks.

        Returns:
            Blocks of G = `block` + 1 frames; the first is context for what moves, no part of the block.
        """
        return self.at(self.draw_numbers(rng, count))

    def draw_numbers(self, rng: np.random.Generator, count: int) -> Int64[np.ndarray, " B"]:
        """Draw the numbers of random blocks, for `at`."""
        return rng.integers(0, len(self), size=count)

    def at(self, positions: Int64[np.ndarray, " B"]) -> UInt8[np.ndarray, "B G H W 3"]:
        """Return the blocks of the given numbers, 0 to len - 1, each preceded by the frame before it."""
        return self.frames[self._starts(positions)[:, None] + np.arange(self.block + 1)]

    def grain(self) -> Float32[np.ndarray, " N"]:
        """How much grain each of the N blocks has.

        It is the root mean square of the middle frame's green, 0 to 1, after a four-neighbour Laplacian.
        """
        strength = np.concatenate(
            [_grain(self.frames[at : at + _GRAIN_BATCH]) for at in range(0, len(self.frames), _GRAIN_BATCH)]
        )
        return strength[self._starts(np.arange(len(self))) + (self.block + 1) // 2]

    def median(self, rng: np.random.Generator, count: int = 1024) -> UInt8[np.ndarray, "H W 3"]:
        """Return the median of every pixel and colour over `count` random frames."""
        chosen = self.frames[rng.integers(0, len(self.frames), size=count)]
        return np.median(chosen, axis=0).astype(np.uint8)

    def _starts(self, positions: Int64[np.ndarray, " B"]) -> Int64[np.ndarray, " B"]:
        """Index of the frame before each block."""
        episodes = np.searchsorted(self._ends, positions, side="right")
        before = np.where(episodes > 0, self._ends[episodes - 1], 0)
        return self._bases[episodes] + positions - before


def _grain(frames: UInt8[np.ndarray, "n H W 3"]) -> Float32[np.ndarray, " n"]:
    green = frames[..., 1].astype(np.float32) / 255.0
    around = green[:, :-2, 1:-1] + green[:, 2:, 1:-1] + green[:, 1:-1, :-2] + green[:, 1:-1, 2:]
    return np.sqrt(np.square(green[:, 1:-1, 1:-1] - around / 4.0).mean(axis=(1, 2)))


def _fitting(
    lengths: Int64[np.ndarray, " E"], frame_bytes: int, max_gigabytes: float, seed: int
) -> Int64[np.ndarray, " n"]:
    """Choose the episodes that fit into memory: all, or the first ones of a random order."""
    order = np.random.default_rng(seed).permutation(len(lengths))
    fits = np.cumsum(lengths[order]) * frame_bytes <= max_gigabytes * 1e9
    return np.sort(order[: max(int(fits.sum()), 1)]).astype(np.int64)
