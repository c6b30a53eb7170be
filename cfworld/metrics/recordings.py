"""What the twin really did: held-out starts and the continuations that a world is judged against.

An episode of a twin is a pure function of its seed and its actions, so several continuations of one start
are made by replaying the episode up to the start. All actions are drawn beforehand: twin and world get
the same ones.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from cfworld.data.policies import make_policy
from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError

__all__ = ["FIRST_SEED", "Recording", "held_out", "policy_actions", "record"]

FIRST_SEED = 1_000_000
"""Seeds from here on are for evaluation; training uses smaller ones."""
_ACTION_STREAM = 7
_LONGEST_SEARCH = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """A start (P frames of prefix) and what the twin did in the T ticks after it."""

    seed: int
    """Seed of the episode."""
    god: bool
    """Whether the episode could not end."""
    history: Shaped[np.ndarray, "S ..."]
    """Actions from the reset to the start, S >= P ticks."""
    prefix: UInt8[np.ndarray, "P H W 3"]
    """The last P frames before the start."""
    frames: UInt8[np.ndarray, "K H W 3"]
    """The frame after each tick, the last valid one repeated after an end: K = T, or 0 without frames."""
    actions: Shaped[np.ndarray, "T ..."]
    """The action of each tick."""
    rewards: Float32[np.ndarray, " T"]
    """The reward of each tick, 0 after an end."""
    end: int
    """Index of the tick that ended the episode, or T."""
    variables: Mapping[str, Float32[np.ndarray, " T"]]
    """The simulator's variables after each tick; NaN after an end."""

    @property
    def prefix_actions(self) -> np.ndarray:
        """The actions that made the prefix, one per frame."""
        return self.history[len(self.history) - len(self.prefix) :]

    @property
    def valid(self) -> Bool[np.ndarray, " T"]:
        """Ticks whose frame belongs to the running episode."""
        return np.arange(len(self.actions)) < self.end

    def without_frames(self) -> "Recording":
        """The same without the frames after the start, for long episodes of which only the end matters."""
        return replace(self, frames=self.frames[:0])

    def begun_later(self, ticks: int) -> "Recording":
        """The same start, so many ticks later: what was seen until then becomes prefix. It ends no sooner than that."""
        return replace(
            self,
            history=np.concatenate([self.history, self.actions[:ticks]]),
            prefix=np.concatenate([self.prefix, self.frames[:ticks]]),
            frames=self.frames[ticks:],
            actions=self.actions[ticks:],
            rewards=self.rewards[ticks:],
            end=self.end - ticks,
            variables={name: values[ticks:] for name, values in self.variables.items()},
        )


def policy_actions(twin: gym.Env, policy: str, num_ticks: int, seed: int) -> np.ndarray:
    """Actions [num_ticks(, A)] of a policy without eyes of `cfworld.data.policies`, a pure function of the seed."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, _ACTION_STREAM)))
    nothing = np.zeros((0, 1, 1, 3), np.uint8)
    return make_policy(policy, rng, twin.action_space)(nothing, num_ticks)


def record(
    twin: Twin, seed: int, history: np.ndarray, actions: np.ndarray, prefix_ticks: int, god: bool = False
) -> Recording | None:
    """Play an episode up to its start and beyond it.

    Args:
        twin: the simulator; its time limit must lie beyond the last tick.
        seed: seed of the episode.
        history: actions up to the start, at least `prefix_ticks`.
        actions: actions after the start.
        prefix_ticks: P, the number of frames to keep before the start.
        god: ask for an episode that cannot end.

    Returns:
        The recording, or None if the episode ended before its start.
    """
    twin.reset(seed=seed, options={"god": True} if god else None)
    past = list(_play(twin, history))
    if sum(len(ticks.frames) for ticks in past) < len(history) or (past and past[-1].terminated):
        return None
    prefix = np.concatenate([ticks.frames for ticks in past])[len(history) - prefix_ticks :]
    future = list(_play(twin, actions))
    num_played = sum(len(ticks.frames) for ticks in future)
    ended = bool(future) and future[-1].terminated
    source = np.minimum(np.arange(len(actions)), num_played - 1)
    played = np.arange(len(actions)) < num_played
    rewards = np.concatenate([ticks.rewards for ticks in future])
    return Recording(
        seed=seed,
        god=god,
        history=history,
        prefix=prefix,
        frames=np.concatenate([ticks.frames for ticks in future])[source],
        actions=actions,
        rewards=np.where(played, rewards[source], np.float32(0)),
        end=num_played - 1 if ended else len(actions),
        variables=_variables(future, source, played),
    )


def held_out(
    twin: Twin,
    num_starts: int,
    num_ticks: int,
    prefix_ticks: int,
    *,
    first_seed: int = FIRST_SEED,
    policy: str = "sticky",
    latest_start: int = 150,
    god: bool = False,
) -> Iterator[Recording]:
    """Record starts on seeds that were never trained on; episodes that end too early are passed over.

    Args:
        twin: the simulator.
        num_starts: how many recordings to make.
        num_ticks: T, ticks after the start.
        prefix_ticks: P, frames before the start.
        first_seed: the first seed to try, at least `FIRST_SEED`.
        policy: a blind policy, which draws all actions.
        latest_start: the start lies at a uniformly random tick from max(32, P) to this, or at P if that
            is later.
        god: ask for episodes that cannot end.

    Yields:
        `num_starts` recordings in the order of their seeds.

    Raises:
        ConfigError: if seeds may have been trained on, or if no episode lives long enough.
    """
    if first_seed < FIRST_SEED:
        raise ConfigError(f"seed is {first_seed}; expected at least {FIRST_SEED}: smaller ones are for training")
    found = 0
    for tried, seed in enumerate(count(first_seed)):
        if found == num_starts:
            return
        if tried == _LONGEST_SEARCH * (found + 1):
            raise ConfigError(f"{tried - found} of {tried} episodes ended before their start; shorten the prefix")
        length = _start_tick(seed, prefix_ticks, latest_start)
        actions = policy_actions(twin, policy, length + num_ticks, seed)
        recording = record(twin, seed, actions[:length], actions[length:], prefix_ticks, god)
        if recording is not None:
            found += 1
            yield recording


def _start_tick(seed: int, prefix_ticks: int, latest_start: int) -> int:
    earliest = max(32, prefix_ticks) if latest_start >= 32 else prefix_ticks
    rng = np.random.default_rng(np.random.SeedSequence((seed, _ACTION_STREAM, 1)))
    return int(rng.integers(earliest, max(earliest, latest_start) + 1))


def _play(twin: Twin, actions: np.ndarray) -> Iterator[Any]:
    for first in range(0, len(actions), twin.frames_per_step):
        ticks = twin.step_ticks(actions[first : first + twin.frames_per_step])
        yield ticks
        if ticks.terminated or ticks.truncated:
            return


def _variables(future: Iterable[Any], source: np.ndarray, played: np.ndarray) -> dict[str, np.ndarray]:
    future = list(future)
    names = future[0].variables if future else {}
    joined = {name: np.concatenate([ticks.variables[name] for ticks in future]) for name in names}
    return {name: np.where(played, values[source], np.float32(np.nan)) for name, values in joined.items()}
