"""Checks of what a user passes to an environment; each refuses at once what would fail only later."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from cfworld.errors import ConfigError, StartError
from cfworld.world import Start, World
from cfworld.world.start import encode_start

__all__ = ["check_horizon", "check_options", "check_starts", "one_of"]


def one_of(name: str, value: Any, choices: Sequence[Any]) -> Any:
    """Give back a value that is among the choices.

    Raises:
        ConfigError: if it is not.
    """
    if value not in choices:
        raise ConfigError(f"got {name}={value!r}; expected one of {', '.join(map(repr, choices))}")
    return value


def check_horizon(horizon: Any, frames: int, frames_per_step: int) -> int:
    """Steps until an episode is truncated.

    Args:
        horizon: what the user asked for; None for the world's own.
        frames: the world's own, in frames.
        frames_per_step: frames per step F.

    Returns:
        Steps, at least 1.

    Raises:
        ConfigError: if it is no integer, or below 1.
    """
    if horizon is None:
        return -(-frames // frames_per_step)
    if not _is_integer(horizon) or horizon < 1:
        raise ConfigError(
            f"got horizon={horizon!r}; expected an integer of at least 1 step, or None for the world's own"
        )
    return int(horizon)


def check_starts(starts: Any, world: World) -> list[int | Start] | None:
    """Validate every start that an episode may draw.

    Args:
        starts: indices into the world's starts, or `Start`s; None for all of the world's.
        world: the world.

    Returns:
        The starts, as a list of their own.

    Raises:
        ConfigError: if they are no sequence, or an empty one.
        StartError: if one does not exist or does not fit the world.
    """
    if starts is None:
        return None
    if not isinstance(starts, Sequence | np.ndarray) or isinstance(starts, str):
        raise ConfigError(f"got starts={starts!r}; expected a sequence of indices or Starts, or None for all")
    if len(starts) == 0:
        raise ConfigError("got starts=[]; expected at least one, or None for all of the world's own")
    return [_check_start(start, world) for start in starts]


def check_options(options: Any) -> Any:
    """The start that `reset(options=...)` names, or None.

    Raises:
        ConfigError: if the options are no mapping, or hold anything else.
    """
    if options is None:
        return None
    if not isinstance(options, dict):
        raise ConfigError(f'got options={options!r}; expected a dict such as {{"start": 0}}, or None')
    unknown = sorted(map(str, set(options) - {"start"}))
    if unknown:
        raise ConfigError(f'got reset options {unknown}; expected only "start"')
    return options.get("start")


@torch.inference_mode()
def _check_start(start: Any, world: World) -> int | Start:
    if isinstance(start, Start):
        encode_start(start, world.config, world.tokenizer, world.generator, world.device)
        return start
    if not _is_integer(start):
        raise StartError(f"got {start!r} among starts; expected an index or a cfworld.Start")
    world.starts.pick(int(start))
    return int(start)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
