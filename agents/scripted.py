"""Those who act without having learned: the policies that collect data, and the blind sweep of a given period."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from cfworld.agents.sight import Seen
from cfworld.data.action_space import action_dtype
from cfworld.data.choices import opposite_actions
from cfworld.data.policies import Policy, make_policy
from cfworld.errors import ConfigError
from cfworld.world import World

__all__ = ["PolicyPlayer", "named_policy", "sweep_of"]


class PolicyPlayer:
    """A `Player` of policies that act in one episode each.

    Args:
        world: where they act, or whose simulator.
        new_policy: from the seed of an episode to its policy.
        looks: whether policies look at frames.
    """

    def __init__(self, world: World, new_policy: Callable[[int], Policy], *, looks: bool = False):
        self.looks = looks
        self._new_policy = new_policy
        self._num_frames = world.config.frames_per_step
        self._nothing = np.zeros((0, *world.config.resolution, 3), np.uint8)
        self._policies: list[Policy] = []

    def begin(self, seeds: Sequence[int]) -> None:
        """Begin an episode per seed."""
        self._policies = [self._new_policy(seed) for seed in seeds]

    def act(self, seen: Seen) -> np.ndarray:
        """Actions for each frame of the running episodes, [B, F, ...]."""
        frames = [self._nothing] * len(self._policies) if seen.frames is None else seen.frames
        pairs = zip(self._policies, frames, strict=True)
        return np.stack([policy(shown, self._num_frames) for policy, shown in pairs])

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these episodes."""
        self._policies = [self._policies[row] for row in rows]


def named_policy(name: str, seed: int, space: gym.Space[Any]) -> Policy:
    """A policy of `cfworld.data.policies` for one episode, a pure function of the seed; or `sweep:<ticks>`.

    Raises:
        ConfigError: if there is no such policy, or it cannot act in this space.
    """
    return make_policy(name, np.random.default_rng(seed), space, {"sweep": _sweep} if ":" in name else None)


def sweep_of(period: int, space: gym.Space[Any]) -> Policy:
    """One way for `period` ticks, the other for as many, and so on, in every episode alike."""
    ways = np.stack([np.asarray(way, action_dtype(space)) for way in opposite_actions(space)[0]])

    def ticks() -> Iterator[int]:
        while True:
            for way in range(2):
                yield from [way] * period

    ahead = ticks()

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        del frames
        return ways[[next(ahead) for _ in range(num_ticks)]]

    return policy


def _sweep(argument: str, rng: np.random.Generator, space: gym.Space[Any]) -> Policy:
    del rng
    if not argument.isdecimal() or int(argument) < 1:
        raise ConfigError(f"got policy sweep:{argument}; expected the ticks of each way, as in sweep:110")
    return sweep_of(int(argument), space)
