"""An agent that Stable-Baselines3 trained, as a policy of a rollout."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from cfworld.data.policies import Policy
from cfworld.envs.spaces import stack_channels
from cfworld.errors import ConfigError

__all__ = ["sb3_policy"]


def sb3_policy(path: str | Path, action_space: Any, resolution: tuple[int, int], num_frames: int) -> Policy:
    """Load an agent (PPO, A2C or DQN) that sees the last frame of a step, or all of them.

    Args:
        path: the `.zip` that its `save` wrote.
        action_space: the world's; the agent's must equal it.
        resolution: height and width of a frame.
        num_frames: frames per step.

    Returns:
        A policy that takes the agent's greedy action and repeats it.

    Raises:
        ConfigError: if the file is no such agent, or it sees or does something else.
    """
    agent = _load(Path(path))
    if agent.action_space != action_space:
        raise ConfigError(f"the agent {str(path)!r} acts in {agent.action_space}; expected {action_space}")
    seen = sorted(agent.observation_space.shape or ())
    if seen not in (sorted((*resolution, 3)), sorted((*resolution, 3 * num_frames))):
        raise ConfigError(
            f"the agent {str(path)!r} sees {agent.observation_space.shape}; expected frames of "
            f"{resolution[0]} x {resolution[1]} pixels, one or all {num_frames} of a step"
        )
    only_last = seen == sorted((*resolution, 3))

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        observation = frames[-1] if only_last else stack_channels(frames)
        action, _ = agent.predict(observation, deterministic=True)
        return np.stack([action] * num_ticks)

    return policy


def _load(path: Path) -> BaseAlgorithm:
    try:
        with zipfile.ZipFile(path) as archive:
            settings = json.loads(archive.read("data"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{str(path)!r} is not an agent of Stable-Baselines3 ({error}); expected a .zip") from error
    kind = PPO if "clip_range" in settings else DQN if "exploration_rate" in settings else A2C
    return kind.load(path, device="cpu")
