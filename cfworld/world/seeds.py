"""Seeds of rows: integers of 64 bits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfworld.errors import StartError

__all__ = ["as_int64", "checked_seeds"]


def checked_seeds(seeds: Any) -> list[int]:
    """The seed of each row.

    Raises:
        StartError: If they are no integers of 64 bits, or none.
    """
    rows = seeds.tolist() if isinstance(seeds, Tensor | np.ndarray) else seeds
    if isinstance(rows, str) or not isinstance(rows, Sequence) or not rows:
        raise StartError(f"seeds are a sequence of integers, one per row; got {seeds!r}.")
    if not all(isinstance(seed, int | np.integer) and not isinstance(seed, bool) for seed in rows):
        raise StartError(f"seeds are integers; got {list(rows)}.")
    if wide := [seed for seed in rows if not -(2**63) <= seed < 2**64]:
        raise StartError(
            f"seeds are integers of 64 bits, from 0 to 2^64 - 1, or negative ones as int64 tensors write them; got "
            f"{wide[0]}. Take it modulo 2^64."
        )
    return [int(seed) for seed in rows]


def as_int64(seeds: Sequence[int], device: torch.device) -> Tensor:
    """Checked seeds as int64 [B]; those from 2^63 are written as negative numbers, so that no two become one."""
    words = [seed - 2**64 if seed >= 2**63 else seed for seed in seeds]
    return torch.tensor(words, dtype=torch.int64, device=device)
