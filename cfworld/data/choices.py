"""What a policy that sees nothing chooses among: any action, the neutral one, opposite ones, and written ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from cfworld.data.action_space import action_dtype, flat, leaves, sizes, unusable
from cfworld.errors import ConfigError

__all__ = ["any_action", "check_choices", "neutral_action", "opposite_actions", "written_action"]


def check_choices(space: spaces.Space) -> None:
    """Refuse a space in which nothing can be chosen blindly.

    Raises:
        ConfigError: It is, or holds, something else than discrete actions from 0 and bounded boxes of floats.
    """
    if problem := unusable(space):
        raise ConfigError(f"nothing can be chosen among the actions: {problem}")
    for _, part in leaves(space):
        box = isinstance(part, spaces.Box) and part.is_bounded() and np.issubdtype(part.dtype, np.floating)
        if not (sizes(part) or box):
            raise ConfigError(
                f"the action space is {space}; expected Discrete, MultiDiscrete, MultiBinary, a bounded Box of floats "
                "with one axis, or a Dict of these: wrap the environment"
            )


def any_action(rng: np.random.Generator, space: spaces.Space) -> np.ndarray:
    """A uniformly random action."""
    return _together(space, {name: _any(rng, part) for name, part in leaves(space)})


def neutral_action(space: spaces.Space) -> np.ndarray:
    """Zeros, or the points of boxes nearest to zero."""
    return _together(space, {name: _neutral(part) for name, part in leaves(space)})


def opposite_actions(space: spaces.Space) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of opposite actions, each with one component of one part away from the neutral action.

    They are 1 and 2, 3 and 4, ... of a discrete component (0 and 1 of one with two values), and the ends of an axis of
    a box.
    """
    neutral = {name: _neutral(part) for name, part in leaves(space)}
    pairs = []
    for name, part in leaves(space):
        for component, low, high in _ends(part):
            ends = [np.atleast_1d(neutral[name]).copy() for _ in range(2)]
            ends[0][component], ends[1][component] = low, high
            one, two = (end.reshape(neutral[name].shape) for end in ends)
            pairs.append((_together(space, {**neutral, name: one}), _together(space, {**neutral, name: two})))
    return pairs or [(neutral_action(space), neutral_action(space))]


def written_action(written: Any, space: spaces.Space) -> np.ndarray | None:
    """An action as it stands in a file of JSON, nothing rounded or cast; None if it is none of the space."""
    if not isinstance(space, spaces.Dict):
        return _written(written, space)
    if not isinstance(written, Mapping) or set(written) != set(space.spaces):
        return None
    parts = {name: _written(written[name], part) for name, part in leaves(space)}
    known = {name: part for name, part in parts.items() if part is not None}
    return _together(space, known) if len(known) == len(parts) else None


def _together(space: spaces.Space, parts: Mapping[str, np.ndarray]) -> np.ndarray:
    return flat(space, {name: part[None] for name, part in parts.items()})[0, ...]


def _any(rng: np.random.Generator, part: spaces.Space) -> np.ndarray:
    if isinstance(part, spaces.Discrete):
        return np.array(rng.integers(part.n))
    if isinstance(part, spaces.Box):
        return rng.uniform(part.low, part.high)
    return rng.integers(np.array(sizes(part)))


def _neutral(part: spaces.Space) -> np.ndarray:
    if isinstance(part, spaces.Box):
        return np.clip(np.zeros_like(part.low), part.low, part.high)
    return np.zeros(() if isinstance(part, spaces.Discrete) else len(sizes(part)), np.int64)


def _ends(part: spaces.Space) -> list[tuple[int, Any, Any]]:
    """Component, one end and the other."""
    if isinstance(part, spaces.Box):
        return [(axis, part.low[axis], part.high[axis]) for axis in range(len(part.low))]
    return [
        (component, first, first + 1)
        for component, count in enumerate(sizes(part))
        for first in (range(1, count - 1, 2) if count > 2 else range(count - 1))
    ]


def _written(written: Any, part: spaces.Space) -> np.ndarray | None:
    if isinstance(part, spaces.Discrete):
        return np.array(written) if type(written) is int and 0 <= written < part.n else None
    numbers = (int, float) if isinstance(part, spaces.Box) else (int,)
    if not isinstance(written, list) or any(type(entry) not in numbers for entry in written):
        return None
    values = np.array(written, action_dtype(part))
    return values if values.shape == part.shape and part.contains(values.astype(part.dtype)) else None
