"""The infos of many rows as one mapping of arrays, as Gymnasium's vector environments make them."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

__all__ = ["blanked", "masked_info", "row_objects", "start_array"]


def masked_info(values: dict[str, Any], mask: Bool[np.ndarray, " B"]) -> dict[str, Any]:
    """Give every value its mask.

    Args:
        values: by name, an array or tensor [B, ...] with every row filled, or infos that have masks already.
        mask: the rows that have this info.

    Returns:
        The values, empty outside the mask, and under "_name" a mask of their own; nothing if no row has the info.
    """
    if not mask.any():
        return {}
    info: dict[str, Any] = {}
    for name, value in values.items():
        info[name] = value if mask.all() or isinstance(value, dict) else blanked(value, ~mask)
        info[f"_{name}"] = mask.copy()
    return info


def row_objects(values: Any, rows: Any, num_envs: int) -> np.ndarray:
    """An object array [num_envs] that holds values[i] at rows[i] and None elsewhere."""
    array = np.full(num_envs, None, dtype=object)
    for row, value in zip(rows, values, strict=True):
        array[row] = value
    return array


def start_array(starts: Any) -> np.ndarray:
    """Starts as an array: int64 where all are indices, objects otherwise."""
    if all(isinstance(start, int | np.integer) for start in starts):
        return np.array(starts, np.int64)
    return row_objects(starts, range(len(starts)), len(starts))


def blanked(value: Any, rows: Bool[np.ndarray, " B"], fill: int = 0) -> Any:
    """A copy with `fill`, or None among objects, in these rows."""
    if isinstance(value, Tensor):
        where = torch.as_tensor(rows).to(value.device).reshape(-1, *(1,) * (value.ndim - 1))
        return value.masked_fill(where, fill)
    copy: np.ndarray = value.copy()
    copy[rows] = None if copy.dtype == np.object_ else fill
    return copy
