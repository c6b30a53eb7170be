"""Episodes for the tests of the environments."""

from typing import Any

import numpy as np
import torch

from cfworld import World
from cfworld.envs.world_env import WorldEnv
from tests.toy import toy_world

ACTIONS = [0, 1, 2, 2, 1, 0, 1]


def deadly_world() -> World:
    """A world in which every episode ends at the first frame."""
    world = toy_world()
    with torch.no_grad():
        world.generator.heads.hazard.out.bias.fill_(100.0)
    return world


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
