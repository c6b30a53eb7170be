"""Environments and policies that collection is tested with; a module, so that worker processes find them."""

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from cfworld.data.policies import Policy


class CountingEnv(gym.Env):
    """Every pixel of frame t is t; the reward is the action's first number; it ends after ten steps."""

    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self._frame = np.zeros((8, 8, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self._frame[:] = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self._frame += 1
        return self._observation(), float(action[0]), bool(self._frame[0, 0, 0] == 10), False, {}

    def _observation(self) -> Any:
        return self._frame.copy()


class BlindCountingEnv(CountingEnv):
    """The same, but the frame is only rendered."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = spaces.Box(0, 1, (1,), np.float32)

    def _observation(self) -> Any:
        return np.zeros(1, np.float32)

    def render(self) -> Any:
        return self._frame


class UnrewardingEnv(CountingEnv):
    """The same, but the third reward is none."""

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict]:
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, None if self._frame[0, 0, 0] == 3 else reward, terminated, truncated, info


gym.register(id="fake/Unrewarding-v0", entry_point="tests.data.fakes:UnrewardingEnv", disable_env_checker=True)
gym.register(id="fake/Counting-v0", entry_point="tests.data.fakes:CountingEnv")
gym.register(id="fake/BlindCounting-v0", entry_point="tests.data.fakes:BlindCountingEnv")


def start_simulator() -> None:
    """Starts a process that inherits whatever it can, as the processes of ViZDoom do."""
    SIMULATORS.append(subprocess.Popen(["sleep", "60"], close_fds=False))


SIMULATORS: list[subprocess.Popen] = []


def simulating(argument: str, rng: np.random.Generator, action_space: gym.Space) -> Policy:
    """Starts a simulator once it is asked to act."""

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        start_simulator()
        return np.zeros(num_ticks, np.int64)

    return policy


def deadly(argument: str, rng: np.random.Generator, action_space: gym.Space) -> Policy:
    """Starts a simulator and kills its process, as lack of memory would, once it is asked to act."""

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        start_simulator()
        os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(num_ticks, np.int64)

    return policy


def failing(argument: str, rng: np.random.Generator, action_space: gym.Space) -> Policy:
    """Raises when it is asked to act."""

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        raise ZeroDivisionError("out of ideas")

    return policy


class BakingJob:
    """Its process dies over piece 0, and it raises over any other."""

    worker: ClassVar[str] = "baking worker"
    advice: ClassVar[str] = "the loaves are kept: light the oven again"

    def __call__(self, number: int, advance: Callable[[int], None]) -> None:
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        raise ValueError("no flour")

    def close(self) -> None:
        pass
