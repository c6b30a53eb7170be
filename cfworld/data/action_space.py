"""Actions of any space as one array: what episodes hold, policies choose and latents are stored with.

| space | one action |
|---|---|
| `Discrete(n)` | int64 `[]` |
| `MultiDiscrete` (one axis), `MultiBinary` | int64 `[K]` |
| `Box` (one axis) | float32 `[A]` |
| `Text` | int64 `[]`: which of the dataset's texts |
| `Dict` of these | float32 `[S]`: the parts in the order of their names, side by side |
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

__all__ = ["action_dtype", "flat", "leaves", "nested", "num_columns", "sizes", "unusable"]


def sizes(space: spaces.Space) -> list[int]:
    """How many values each component of a discrete action can take; none for a space of something else."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return space.nvec.tolist()
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return [2] * space.shape[0]
    return []


def leaves(space: spaces.Space) -> list[tuple[str, spaces.Space]]:
    """The parts of a Dict with their names, in the order in which their columns lie; any other space without one."""
    return sorted(space.spaces.items()) if isinstance(space, spaces.Dict) else [("", space)]


def unusable(space: spaces.Space) -> str:
    """What is wrong with a space of actions; nothing if a world can learn from it."""
    for name, part in leaves(space):
        from_zero = not np.any(getattr(part, "start", 0))
        box = isinstance(part, spaces.Box) and len(part.shape) == 1
        if not ((sizes(part) and from_zero) or box or isinstance(part, spaces.Text)):
            where = f"their part {name!r} is {part}" if name else f"they are {part}"
            return (
                f"{where}; expected Discrete or MultiDiscrete (from 0), MultiBinary, a Box with one axis, Text, or a "
                "Dict of these"
            )
    return "" if leaves(space) else "they are an empty Dict; expected at least one part"


def num_columns(space: spaces.Space) -> int:
    """Numbers that one action of a space without parts is made of."""
    return int(np.prod(space.shape or ()))


def action_dtype(space: spaces.Space) -> type[np.int64] | type[np.float32]:
    """Dtype of actions as an array."""
    return np.float32 if isinstance(space, spaces.Dict | spaces.Box) else np.int64


def flat(space: spaces.Space, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    """Put actions together.

    Args:
        space: A space that is not `unusable`.
        parts: Actions of each part by its name, `[T]` or `[T, n]`; "" for a space without parts.

    Returns:
        One array, `[T, ...]`.
    """
    if not isinstance(space, spaces.Dict):
        return parts[""].astype(action_dtype(space))
    columns = [parts[name].reshape(len(parts[name]), num_columns(part)) for name, part in leaves(space)]
    return np.concatenate(columns, axis=1, dtype=np.float32, casting="unsafe")


def nested(space: spaces.Space, actions: Any, texts: Sequence[str] | None = None) -> Any:
    """Take actions apart: the inverse of `flat`, with any leading axes or none.

    Args:
        space: A space that is not `unusable`.
        actions: `[*, ...]`.
        texts: The dataset's, which then take the place of their numbers.

    Returns:
        For a Dict a mapping of arrays of its parts' dtypes, or of one action; for any other space an array.
    """
    if isinstance(space, spaces.Text):
        return actions if texts is None else np.array(texts)[actions]
    if not isinstance(space, spaces.Dict):
        return actions
    parts: dict[str, np.ndarray] = {}
    first = 0
    for name, part in leaves(space):
        count = num_columns(part)
        values = actions[..., first : first + count].astype(np.int64 if isinstance(part, spaces.Text) else part.dtype)
        parts[name] = nested(part, values if part.shape else values[..., 0][()], texts)
        first += count
    return parts
