"""What the environments cost over the bare `World.step`: all from one moment, under the same actions, in turn."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from cfworld.envs import EnvState, WorldEnv, WorldVectorEnv
from cfworld.metrics.machine import synchronize
from cfworld.metrics.speed.world_speed import random_actions
from cfworld.world import Ends, World

__all__ = ["EnvSpeed", "contenders", "measure_environments"]

_RESAMPLES = 2000
_BARE = "World.step"


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvSpeed:
    """Speed of one way to step a world at one batch size, decoding included."""

    way: str
    """World.step, WorldEnv, WorldVectorEnv, or WorldVectorEnv with tensors."""
    batch: int
    """Rows."""
    steps_per_s: float
    """Steps of the batch per second, by the median latency."""
    frames_per_s: float
    """Frames of all rows per second, by the median latency."""
    step_ms_p50: float
    """Median latency of a step in milliseconds."""
    ratio: float
    """Median over the rounds of its latency to that of the bare step in the same round; 1 for the bare step."""
    ratio_low: float
    """2.5th percentile of that median, over resampled rounds."""
    ratio_high: float
    """97.5th percentile of it."""

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def contenders(world: World, batch: int) -> dict[str, Callable[[np.ndarray], Any]]:
    """The ways to step a world: functions of the rows' actions, each with a state of its own.

    All of them begin at the same moment. No episode ends in any of them, so that they do the same work for ever.

    Args:
        world: the world.
        batch: rows.

    Returns:
        By name: the bare step; the vector environment; for one row the single environment too; on a GPU the vector
        environment that gives tensors.
    """
    endless = world.with_ends(Ends.NEVER)
    limit = np.iinfo(np.int64).max
    first = WorldVectorEnv(batch, endless, horizon=limit)
    first.reset(seed=0)
    moment = first.get_state()
    ways: dict[str, Callable[[np.ndarray], Any]] = {_BARE: _bare(endless, moment), "WorldVectorEnv": first.step}
    if batch == 1:
        single = WorldEnv(endless, horizon=limit)
        single.set_state(moment)
        ways["WorldEnv"] = lambda actions: single.step(actions[0])
    if world.device.type != "cpu":
        tensors = WorldVectorEnv(batch, endless, horizon=limit, tensors=True)
        tensors.set_state(moment)
        ways["WorldVectorEnv, tensors"] = tensors.step
    return ways


def measure_environments(
    world: World, batch: int, steps: int, warmup: int, tick: Callable[[], Any] = lambda: None
) -> list[EnvSpeed]:
    """Time a step of every contender in each round; who comes first moves on from round to round.

    Other work on the machine, and an episode that grows older, thus meet all of them alike.

    Args:
        world: the world.
        batch: rows stepped together.
        steps: rounds to time.
        warmup: rounds before that are not timed.
        tick: called after every round.

    Returns:
        The speeds, the bare step's first.
    """
    ways = contenders(world, batch)
    names = list(ways)
    seconds = np.zeros((warmup + steps, len(names)))
    rows = torch.arange(batch)
    for index in range(len(seconds)):
        actions = random_actions(world, rows, torch.full_like(rows, index))
        for place in np.roll(np.arange(len(names)), index):
            synchronize(world.device)
            begin = perf_counter()
            ways[names[place]](actions)
            synchronize(world.device)
            seconds[index, place] = perf_counter() - begin
        tick()
    timed = seconds[warmup:]
    return [_speed(name, world, batch, timed[:, column], timed[:, 0]) for column, name in enumerate(names)]


def _bare(world: World, moment: EnvState) -> Callable[[np.ndarray], Any]:
    """The world's own step, which goes on from a moment and hands out its frames."""
    state = moment.world

    def step(actions: np.ndarray) -> torch.Tensor | None:
        nonlocal state
        state, output = world.step(state, actions)
        return output.frames

    return step


def _speed(
    way: str, world: World, batch: int, seconds: Float64[np.ndarray, " n"], bare: Float64[np.ndarray, " n"]
) -> EnvSpeed:
    median = float(np.median(seconds))
    ratios = seconds / bare
    rounds = np.random.default_rng(0).integers(len(ratios), size=(_RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[rounds], axis=1), (2.5, 97.5))
    return EnvSpeed(
        way=way,
        batch=batch,
        steps_per_s=1 / median,
        frames_per_s=batch * world.config.frames_per_step / median,
        step_ms_p50=median * 1000,
        ratio=float(np.median(ratios)),
        ratio_low=float(low),
        ratio_high=float(high),
    )
