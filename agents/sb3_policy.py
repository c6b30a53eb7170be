"""Agents that Stable-Baselines3 trained, as policies of rollouts and of data collection."""

import json
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from cfworld.data.policies import Policy
from cfworld.envs.spaces import stack_channels
from cfworld.errors import ConfigError

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["sb3_agent", "sb3_policy"]


def sb3_policy(path: str | Path, action_space: Any, resolution: tuple[int, int], num_frames: int) -> Policy:
    """Load an agent (PPO, A2C or DQN) that sees the last frame of a step, or all of them.

    Args:
        path: the `.zip` that its `save` wrote. It is read once, for all its episodes.
        action_space: the world's; the agent's must equal it.
        resolution: height and width of a frame.
        num_frames: frames per step.

    Returns:
        A policy that takes the agent's greedy action and repeats it.

    Raises:
        ConfigError: if the file is no such agent, or it sees, does or remembers something else.
    """
    agent = _acting(Path(path), action_space)
    seen = sorted(agent.observation_space.shape or ())
    if seen not in (sorted((*resolution, 3)), sorted((*resolution, 3 * num_frames))):
        raise ConfigError(
            f"the agent {str(path)!r} sees {agent.observation_space.shape}; expected frames of "
            f"{resolution[0]} x {resolution[1]} pixels, one or all {num_frames} of a step"
        )
    only_last = seen == sorted((*resolution, 3))

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        # a simulator's reset gives one frame, which stands for a step
        shown = np.repeat(frames, num_frames, axis=0) if len(frames) == 1 else frames
        observation = shown[-1] if only_last else stack_channels(shown)
        action, _ = agent.predict(observation, deterministic=True)
        return np.stack([action] * num_ticks)

    return policy


def sb3_agent(argument: str, rng: np.random.Generator, action_space: gym.Space[Any]) -> Policy:
    """The policy `sb3:<file>`: such an agent, acting once a step.

    Args:
        argument: the agent's zip file.
        rng: not used: the agent is greedy.
        action_space: what the agent's action space must equal.

    Raises:
        ConfigError: if there is no such file, or no such agent in it. That it sees something else is told by the first
            frame.
    """
    del rng
    if not Path(argument).is_file():
        raise ConfigError(
            f"got sb3:{argument}, and there is no agent {argument!r}; expected sb3:<file>, the .zip that its save wrote"
        )
    _acting(Path(argument), action_space)
    agent: Policy | None = None

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        nonlocal agent
        agent = agent or sb3_policy(argument, action_space, frames.shape[1:3], num_ticks)
        return agent(frames, num_ticks)

    return policy


def _acting(path: Path, action_space: gym.Space[Any]) -> "BaseAlgorithm":
    agent = _read(path)
    if agent.action_space != action_space:
        raise ConfigError(f"the agent {str(path)!r} acts in {agent.action_space}; expected {action_space}")
    return agent


def _read(path: Path) -> "BaseAlgorithm":
    try:
        return _load(path, path.stat().st_mtime_ns)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {str(path)!r}; expected an agent that Stable-Baselines3 saved") from error
    except OSError as error:
        raise _no_agent(path, error) from error


@lru_cache(maxsize=8)
def _load(path: Path, mtime: int) -> "BaseAlgorithm":
    """Read an agent; `mtime` tells a file from one that took its place."""
    from stable_baselines3 import A2C, DQN, PPO  # not before an agent is asked for: `--help` is quick

    del mtime
    try:
        with zipfile.ZipFile(path) as archive:
            settings = json.loads(archive.read("data"))
        kind = PPO if "clip_range" in settings else DQN if "exploration_rate" in settings else A2C
        agent = kind.load(path, device="cpu")
    except Exception as error:  # what Stable-Baselines3, zipfile, json and torch raise at damaged files are many kinds
        raise _no_agent(path, error) from error
    if hasattr(agent.policy, "lstm_actor"):
        raise ConfigError(
            f"the agent {str(path)!r} remembers ({type(agent.policy).__name__}), and would act here without its "
            "memory; expected PPO, A2C or DQN. Agents that `cfworld agent-train` wrote may remember"
        )
    return agent


def _no_agent(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"{str(path)!r} is not an agent of Stable-Baselines3 ({error!r}); expected a .zip of its save")
