"""How actions are drawn: every row by its own generator, so that it depends on nobody who plays beside it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch.distributions import Categorical, Normal

__all__ = ["DRAWING", "draw"]

DRAWING = 2
"""Version of how actions are drawn; scores of one version are not those of another."""


def draw(likely: Categorical | Sequence[Categorical] | Normal, rngs: Sequence[np.random.Generator]) -> np.ndarray:
    """Draw one action for each row.

    Args:
        likely: how likely actions are, of B rows: choices, several independent choices, or independent numbers.
        rngs: B generators, each of which moves on as if its row were alone.

    Returns:
        Int64 [B], int64 [B, choices] or float32 [B, numbers].
    """
    if isinstance(likely, Normal):
        drawn = np.stack([rng.standard_normal(likely.mean.shape[1]) for rng in rngs])
        return (_numbers(likely.mean) + _numbers(likely.stddev) * drawn).astype(np.float32)
    if isinstance(likely, Categorical):
        return _chosen(likely, rngs)
    return np.stack([_chosen(part, rngs) for part in likely], axis=1)


def _chosen(likely: Categorical, rngs: Sequence[np.random.Generator]) -> np.ndarray:
    """The first choice at which the summed probabilities exceed a uniform number."""
    ladder = _numbers(likely.probs).cumsum(axis=1)
    ladder /= ladder[:, -1:]
    return (np.array([[rng.random()] for rng in rngs]) >= ladder).sum(axis=1).astype(np.int64)


def _numbers(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
