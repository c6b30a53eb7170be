"""Policies of single episodes, such as those that collect data, as a player of many."""

from collections.abc import Callable, Sequence

import numpy as np

from cfworld.agents.sight import Seen
from cfworld.data.policies import Policy
from cfworld.world import World

__all__ = ["PolicyPlayer"]


class PolicyPlayer:
    """A `Player` of policies that act in one episode each.

    Args:
        world: where they act, or whose simulator.
        new_policy: from the seed of an episode to its policy.
        looks: whether policies look at frames.
    """

    def __init__(self, world: World, new_policy: Callable[[int], Policy], *, looks: bool = False):
        self.looks = looks
        self.new_policy = new_policy
        self._num_frames = world.config.frames_per_step
        self._nothing = np.zeros((0, *world.config.resolution, 3), np.uint8)
        self._policies: list[Policy] = []

    def begin(self, seeds: Sequence[int]) -> None:
        """Begin an episode per seed."""
        self._policies = [self.new_policy(seed) for seed in seeds]

    def act(self, seen: Seen) -> np.ndarray:
        """Actions for each frame of the running episodes, [B, F, ...]."""
        frames = [self._nothing] * len(self._policies) if seen.frames is None else seen.frames
        pairs = zip(self._policies, frames, strict=True)
        return np.stack([policy(shown, self._num_frames) for policy, shown in pairs])

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these episodes."""
        self._policies = [self._policies[row] for row in rows]
