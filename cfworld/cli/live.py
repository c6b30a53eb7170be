"""Worlds that live on: when an episode ends or reaches the world's horizon, the next begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from gymnasium.vector import AutoresetMode

from cfworld.agents.players import make_player, player_policy
from cfworld.agents.scripted import PolicyPlayer
from cfworld.data.policies import Policy
from cfworld.envs.seeding import episode_seed
from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.world import World

__all__ = ["LiveRow", "LiveRows", "LiveStep", "policies"]


@dataclass(kw_only=True, slots=True)
class LiveRow:
    """One of the worlds generated side by side, and the episode that it is in."""

    seed: int
    """It names the row's episodes."""
    policy: Policy
    """Who acts in this episode."""
    frames: np.ndarray
    """The frames of its last step, uint8 [F, H, W, 3]."""
    episode: int = 0
    length: int = 0
    """Frames of this episode so far."""
    reward: float = 0.0
    """Sum of this episode's rewards so far."""
    lengths: list[int] = field(default_factory=list)
    """Frames of the episodes that have ended."""
    returns: list[float] = field(default_factory=list)
    """Summed rewards of the episodes that have ended."""
    truncated: list[bool] = field(default_factory=list)
    """Whether each of them was cut off by the world's horizon, rather than ended by the world."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveStep:
    """What one step made of all rows, on the host."""

    frames: np.ndarray
    """uint8 [B, F, H, W, 3]."""
    actions: np.ndarray
    """[B, F] or [B, F, A]."""
    rewards: np.ndarray
    """float32 [B, F]."""
    hazards: np.ndarray
    """float32 [B, F]."""
    end_frame: np.ndarray
    """Frame of the step at which the episode ended, or F, int64 [B]."""
    terminated: np.ndarray
    """Rows whose episode has ended, bool [B]."""
    truncated: np.ndarray
    """Rows that have reached the world's horizon without an end, bool [B]."""
    seconds: float
    """What the generation took, decoding included."""


class LiveRows:
    """Rows of a world, each in episode after episode under its own policy.

    Args:
        world: the world.
        seeds: of the rows.
        new_policy: from the seed of an episode to its policy.
    """

    def __init__(self, world: World, seeds: Sequence[int], new_policy: Callable[[int], Policy]):
        self.world = world
        self._new_policy = new_policy
        self._envs = WorldVectorEnv(len(seeds), world, info_frames=True, autoreset_mode=AutoresetMode.DISABLED)
        _, infos = self._envs.reset(seed=list(seeds))
        self.rows = [
            LiveRow(seed=seed, policy=new_policy(seed), frames=first)
            for seed, first in zip(seeds, infos["frames"], strict=True)
        ]

    def step(self) -> LiveStep:
        """Let every policy act and generate the next step; count what it brought."""
        num_frames = self.world.config.frames_per_step
        actions = np.stack([row.policy(row.frames, num_frames) for row in self.rows])
        begin = perf_counter()
        _, rewards, terminated, truncated, infos = self._envs.step(actions)
        seconds = perf_counter() - begin
        for place, row in enumerate(self.rows):
            row.frames = infos["frames"][place]
            row.length += min(int(infos["end_frame"][place]) + 1, num_frames)
            row.reward += float(rewards[place])
        return LiveStep(
            frames=infos["frames"],
            actions=actions,
            rewards=infos["reward_frames"],
            hazards=infos["hazard"],
            end_frame=infos["end_frame"],
            terminated=terminated,
            truncated=truncated,
            seconds=seconds,
        )

    def begin_again(self, step: LiveStep) -> None:
        """Give every row whose episode the step ended or truncated its next one."""
        over = step.terminated | step.truncated
        if not over.any():
            return
        _, infos = self._envs.reset(options={"reset_mask": over})
        for place in np.flatnonzero(over).tolist():
            row = self.rows[place]
            row.lengths.append(row.length)
            row.returns.append(row.reward)
            row.truncated.append(bool(step.truncated[place]))
            row.episode, row.length, row.reward = row.episode + 1, 0, 0.0
            row.frames = infos["frames"][place]
            row.policy = self._new_policy(episode_seed(row.seed, row.episode))


def policies(name: str, world: World) -> Callable[[int], Policy]:
    """Make the policies of a world's episodes.

    Args:
        name: as `make_player` knows them.
        world: where they act.

    Returns:
        From the seed of an episode to its policy.

    Raises:
        ConfigError: if there is no such policy, or it does not fit the world.
    """
    player = make_player(name, world)
    if isinstance(player, PolicyPlayer):
        return player.new_policy
    return lambda seed: player_policy(make_player(name, world), seed)
