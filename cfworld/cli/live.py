"""Worlds that live on: when an episode ends or reaches the world's horizon, the next begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from torch import Tensor

from cfworld.agents.players import make_player, player_policy
from cfworld.agents.scripted import PolicyPlayer
from cfworld.data.policies import Policy
from cfworld.envs.seeding import episode_seed
from cfworld.metrics import machine
from cfworld.world import StepOutput, World

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
    out: StepOutput
    seconds: float
    """What the generation took, decoding included."""
    truncated: np.ndarray
    """Rows that have reached the world's horizon without an end, bool [B]."""


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
        self._state, frames = world.initial(seeds)
        self.rows = [
            LiveRow(seed=seed, policy=new_policy(seed), frames=first)
            for seed, first in zip(seeds, _host(frames), strict=True)
        ]

    def step(self) -> LiveStep:
        """Let every policy act and generate the next step; count what it brought."""
        num_frames = self.world.config.frames_per_step
        actions = np.stack([row.policy(row.frames, num_frames) for row in self.rows])
        begin = perf_counter()
        self._state, out = self.world.step(self._state, actions, donate=True)
        machine.synchronize(self.world.device)
        seconds = perf_counter() - begin
        assert out.frames is not None
        frames = _host(out.frames)
        for place, row in enumerate(self.rows):
            row.frames = frames[place]
            row.length += min(int(out.end_frame[place]) + 1, num_frames)
            row.reward += float(out.reward[place])
        lengths = np.array([row.length for row in self.rows])
        truncated = ~out.terminated.cpu().numpy() & (lengths >= self.world.config.horizon_frames)
        return LiveStep(frames=frames, actions=actions, out=out, seconds=seconds, truncated=truncated)

    def begin_again(self, step: LiveStep) -> None:
        """Give every row whose episode the step ended or truncated its next one."""
        ended = np.flatnonzero(step.out.terminated.cpu().numpy() | step.truncated).tolist()
        for place in ended:
            row = self.rows[place]
            row.lengths.append(row.length)
            row.returns.append(row.reward)
            row.truncated.append(bool(step.truncated[place]))
            row.episode, row.length, row.reward = row.episode + 1, 0, 0.0
        if ended:
            seeds = [episode_seed(self.rows[place].seed, self.rows[place].episode) for place in ended]
            fresh, frames = self.world.initial(seeds)
            self._state = self._state.replace(ended, fresh)
            for place, seed, first in zip(ended, seeds, _host(frames), strict=True):
                self.rows[place].frames = first
                self.rows[place].policy = self._new_policy(seed)


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


def _host(frames: Tensor) -> np.ndarray:
    return frames.cpu().numpy()
