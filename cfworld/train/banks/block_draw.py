"""Which blocks of frames a step of the tokenizer sees."""

import numpy as np
from jaxtyping import Int64

from cfworld.train.banks.frame_bank import FrameBank

__all__ = ["BlockDraw"]

LARGEST_QUANTILE = 0.95
"""Blocks with more grain than this share of all are drawn no oftener: an explosion is not to be all there is.
Where so few have any that this would be none, the mean takes its place."""


class BlockDraw:
    """Draws the numbers of blocks: all alike, or a part of them in proportion to their grain.

    Args:
        bank: The blocks.
        detail_share: Share of the draws that are made in proportion to `FrameBank.grain`, 0 to 1.
    """

    def __init__(self, bank: FrameBank, detail_share: float) -> None:
        self.bank = bank
        self._cumulative = None
        if detail_share > 0.0:
            grain = bank.grain().astype(np.float64) + 1e-6
            grain = np.minimum(grain, max(np.quantile(grain, LARGEST_QUANTILE), grain.mean()))
            self._cumulative = np.cumsum((1.0 - detail_share) / len(grain) + detail_share * grain / grain.sum())

    def numbers(self, rng: np.random.Generator, count: int) -> Int64[np.ndarray, " B"]:
        """Numbers of blocks, with repetition, for `FrameBank.at`."""
        if self._cumulative is None:
            return self.bank.draw_numbers(rng, count)
        return np.searchsorted(self._cumulative, rng.random(count) * self._cumulative[-1], side="right")
