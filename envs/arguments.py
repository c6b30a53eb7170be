"""Checks of what a user passes to an environment; each refuses at once what would fail only later."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Bool

from cfworld.envs.starts import ChosenStart, find_start
from cfworld.errors import ConfigError, OptionTypeError, StateError
from cfworld.world import Ends, World

__all__ = [
    "check_count",
    "check_ends",
    "check_flag",
    "check_fork_seeds",
    "check_function",
    "check_horizon",
    "check_num_envs",
    "check_options",
    "check_row",
    "check_row_options",
    "check_row_seeds",
    "check_starts",
    "check_step_limit",
    "check_threshold",
    "is_integer",
    "one_of",
]


def one_of(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Give back a value that is among the choices.

    Raises:
        ConfigError: if it is not.
    """
    if value not in choices:
        raise ConfigError(f"got {name}={value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


def check_flag(name: str, value: Any) -> bool:
    """Give back a switch.

    Raises:
        ConfigError: if it is neither True nor False.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ConfigError(f"got {name}={value!r}; expected True or False")
    return bool(value)


def check_ends(ends: Any, replaced: bool) -> Ends | None:
    """The rule by which episodes end, or None for the world's own.

    Args:
        ends: what the user asked for.
        replaced: whether a `termination_fn` says it all.

    Raises:
        ConfigError: if there is no such rule, or it has nothing to say.
    """
    rule = None if one_of("ends", ends, [None, *(known.value for known in Ends)]) is None else Ends(ends)
    if not replaced:
        return rule
    if rule not in (None, Ends.NEVER):
        raise ConfigError(f"got ends={ends!r} beside a termination_fn, which takes its place; give one of the two")
    return Ends.NEVER


def check_function(name: str, function: Any) -> Any:
    """Give back a function of steps, or None.

    Raises:
        ConfigError: if it cannot be called.
    """
    if function is not None and not callable(function):
        raise ConfigError(f"got {name}={function!r}; expected a function of a StepOutput, or None")
    return function


def check_num_envs(num_envs: Any, name: str = "num_envs") -> int:
    """The number of rows of a vector environment.

    Args:
        num_envs: what was given.
        name: as what.

    Raises:
        ConfigError: if it is no integer, or below 1.
    """
    if not is_integer(num_envs) or num_envs < 1:
        raise ConfigError(f"got {name}={num_envs!r}; expected an integer of at least 1 row")
    return int(num_envs)


def check_count(name: str, value: Any) -> int:
    """Give back a number of steps, ticks or the like.

    Raises:
        ConfigError: if it is no integer, below 1, or above 2^63 - 1.
    """
    if not is_integer(value) or not 1 <= value < 2**63:
        raise ConfigError(f"got {name}={value!r}; expected an integer of at least 1, below 2^63, or None for the usual")
    return int(value)


def check_row(row: Any, num_envs: int) -> int:
    """The index of one row.

    Raises:
        StateError: if it is no integer, or there is no such row.
    """
    if not is_integer(row) or not 0 <= row < num_envs:
        raise StateError(f"got row={row!r}; expected an integer from 0 to {num_envs - 1}")
    return int(row)


def check_threshold(truncate_above: Any, world: World) -> float | None:
    """The novelty above which an episode is truncated, or None.

    Raises:
        ConfigError: if it is no number, or the world has no novelty score.
    """
    if truncate_above is None:
        return None
    is_number = isinstance(truncate_above, int | float | np.integer | np.floating)
    if not is_number or isinstance(truncate_above, bool) or math.isnan(truncate_above):
        raise ConfigError(f"got truncate_above={truncate_above!r}; expected a novelty such as 2.0, or None")
    if world.novelty is None:
        raise ConfigError(
            f"got truncate_above={truncate_above} for {world.config.name!r}, whose {world.variant} has no novelty "
            "score; measure it with `cfworld calibrate`, or leave truncate_above out"
        )
    return float(truncate_above)


def check_horizon(horizon: Any, frames: int, frames_per_step: int) -> int:
    """Steps until an episode is truncated.

    Args:
        horizon: what the user asked for; None for the world's own.
        frames: the world's own, in frames.
        frames_per_step: frames per step F.

    Returns:
        Steps, at least 1.

    Raises:
        ConfigError: if it is no integer, below 1, or above 2^63 - 1.
    """
    if horizon is None:
        return -(-frames // frames_per_step)
    return check_count("horizon", horizon)


def check_step_limit(horizon: Any, max_episode_steps: Any) -> Any:
    """The horizon of a vector environment, which Gymnasium calls `max_episode_steps`; None where neither is given.

    Raises:
        ConfigError: if both are given, or the latter is no integer of at least 1.
    """
    if max_episode_steps is None:
        return horizon
    if horizon is not None:
        raise ConfigError(
            f"got horizon={horizon!r} and max_episode_steps={max_episode_steps!r}, two names of one limit; expected "
            "one of them"
        )
    return check_count("max_episode_steps", max_episode_steps)


def check_starts(starts: Any, world: World) -> list[ChosenStart] | None:
    """Validate every start that an episode may draw.

    Args:
        starts: what `find_start` takes, several of them; None for all of the world's.
        world: the world.

    Returns:
        The starts; files have been read.

    Raises:
        ConfigError: if they are no sequence, or an empty one.
        StartError: if one does not exist or does not fit the world.
    """
    if starts is None:
        return None
    if not _is_sequence(starts):
        raise ConfigError(f"got starts={starts!r}; expected a sequence of starts, or None for all")
    if len(starts) == 0:
        raise ConfigError("got starts=[]; expected at least one, or None for all of the world's own")
    return [find_start(start, world) for start in starts]


def check_options(options: Any, *known: str) -> Mapping[str, Any]:
    """The options that `reset(options=...)` gives; none for None.

    Args:
        options: None, or a dict.
        known: the names of those that there are.

    Raises:
        ConfigError: if the options are no dict, or hold anything else.
    """
    if options is None:
        return {}
    quoted = [f'"{name}"' for name in known]
    if not isinstance(options, dict):
        raise ConfigError(f"got options={options!r}; expected a dict with {' or '.join(quoted)}, or None")
    given: dict[Any, Any] = options
    if unknown := sorted(map(str, given.keys() - {*known})):
        raise ConfigError(f"got reset options {unknown}; expected only {' and '.join(quoted)}")
    return given


def check_row_options(options: Any, num_envs: int) -> tuple[Bool[np.ndarray, " B"], list[Any]]:
    """Which rows a vector environment's `reset(options=...)` names, and where each begins.

    Args:
        options: None, or a mapping with "reset_mask", a bool array [num_envs], and "start", which is one start for
            all rows or a sequence of one per row, None where it is drawn. It is left as it is.
        num_envs: rows.

    Returns:
        The rows to reset, and a start or None for every row.

    Raises:
        ConfigError: if the options are no mapping, hold anything else, or do not fit the rows.
        OptionTypeError: if the mask is no array of bools.
    """
    given = check_options(options, "reset_mask", "start")
    start: Any = given.get("start")
    mask = _check_mask(given["reset_mask"], num_envs) if "reset_mask" in given else np.ones(num_envs, np.bool_)
    if not _is_sequence(start):
        return mask, [start] * num_envs
    if len(start) != num_envs:
        raise ConfigError(f"got {len(start)} starts; expected one start, or one for each of the {num_envs} rows")
    return mask, list(start)


def check_fork_seeds(seeds: Any, num_envs: int) -> list[int] | None:
    """The seeds of the copies of a moment, or None where they share the noise of the moment itself.

    Args:
        seeds: None, an integer for seeds, seeds + 1, ..., or a sequence of one integer per copy.
        num_envs: copies.

    Raises:
        ConfigError: if it is none of these, or an integer is negative.
    """
    if seeds is None:
        return None
    given = check_row_seeds(seeds, num_envs, name="seeds")
    known = [seed for seed in given if seed is not None]
    if len(known) < num_envs:
        raise ConfigError(
            f"got seeds={seeds!r}; expected an integer for every copy, or seeds=None for copies that share the noise "
            "of their moment"
        )
    return known


def check_row_seeds(seed: Any, num_envs: int, *, name: str = "seed") -> list[int | None]:
    """The seed of every row.

    Args:
        seed: None, an integer for seed + row, or a sequence of one integer or None per row.
        num_envs: rows.
        name: what the argument is called.

    Raises:
        ConfigError: if it is none of these, or an integer is negative.
    """
    if seed is None or is_integer(seed):
        seeds: list[Any] = [None if seed is None else int(seed) + row for row in range(num_envs)]
    elif _is_sequence(seed):
        seeds = list(seed)
    else:
        raise ConfigError(f"got {name}={seed!r}; expected an integer, a sequence of one per row, or None")
    if len(seeds) != num_envs:
        raise ConfigError(f"got {len(seeds)} seeds; expected one for each of the {num_envs} rows")
    wrong = [one for one in seeds if one is not None and (not is_integer(one) or one < 0)]
    if wrong:
        raise ConfigError(f"got {name}={wrong[0]!r}; expected integers of at least 0")
    return [None if one is None else int(one) for one in seeds]


def _check_mask(mask: Any, num_envs: int) -> Bool[np.ndarray, " B"]:
    array: Any = mask.cpu().numpy() if isinstance(mask, torch.Tensor) else mask
    kind = str(array.dtype) if hasattr(array, "dtype") else f"type {type(array).__name__}"
    if kind != "bool":
        raise OptionTypeError(f"got a reset_mask of {kind}; expected a numpy array of bools, shape ({num_envs},)")
    if array.shape != (num_envs,):
        raise ConfigError(f"got a reset_mask of shape {array.shape}; expected ({num_envs},), one bool per row")
    if not array.any():
        raise ConfigError("got a reset_mask without a True; expected at least one row to reset")
    return array.copy()


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number, of Python's or NumPy's."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_sequence(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str)
