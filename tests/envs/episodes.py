"""Episodes for the tests of the environments."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from cfworld import StepOutput, World
from cfworld.envs.world_env import WorldEnv
from tests.toy import toy_world

ACTIONS = [0, 1, 2, 2, 1, 0, 1]


def deadly_world() -> World:
    """A world in which every episode ends at the first frame."""
    world = toy_world()
    with torch.no_grad():
        world.generator.heads.hazard.out.bias.fill_(100.0)
    return world


def one_a_step(step: StepOutput) -> list[float]:
    """A `reward_fn` by which each step is worth 1."""
    return [1.0] * len(step.reward)


def first_row_ends_in_step(number: int) -> Callable[[StepOutput], list[bool]]:
    """A `termination_fn` by which row 0 dies in the step of this number, and nobody else."""
    calls: list[int] = []

    def ends(step: StepOutput) -> list[bool]:
        calls.append(1)
        return [len(calls) == number, *[False] * (len(step.reward) - 1)]

    return ends


def play(env: WorldEnv, actions: list[int]) -> list[tuple[Any, ...]]:
    """Observation, reward, ends, frames and hazard of every step."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation, reward, terminated, truncated, env.frames(), info["hazard"]))
        if terminated or truncated:
            break
    return seen


def same(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))
