"""The twin: a real simulator behind the spaces, frame size, step length and ends of a generated world."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from jaxtyping import Float32, UInt8

from cfworld.envs.arguments import check_count, check_flag, check_options, one_of
from cfworld.envs.rendering import RENDER_MODES, Screen
from cfworld.envs.spaces import (
    check_discrete_sequence,
    check_discrete_step,
    frame_space,
    frames_space,
    stack_channels,
    world_action_space,
)
from cfworld.errors import ConfigError, EnvironmentClosedError, ResetNeededError
from cfworld.prompts import ActionConfig

__all__ = ["Ticks", "Twin"]

DEFAULT_MAX_TICKS = 2100


@dataclass(frozen=True, kw_only=True, slots=True)
class Ticks:
    """What `n` simulator ticks brought; `n` is less than the number of actions when the episode ended."""

    frames: UInt8[np.ndarray, "n H W 3"]
    """The frame after each tick; a frame that the simulator blanks repeats the last valid one."""
    rewards: Float32[np.ndarray, " n"]
    """The reward of each tick."""
    terminated: bool
    """True when the last tick ended the episode for good."""
    truncated: bool
    """True when the last tick reached the time limit."""
    variables: Mapping[str, Float32[np.ndarray, " n"]]
    """The simulator's variables after each tick, by name."""


class Twin(gym.Env[np.ndarray, Any], ABC):
    """Base of every twin: counts ticks, repeats actions and frames, and checks what the caller does.

    A twin supplies `_begin`, `_tick` and `_variables`, and the class attributes below.

    Args:
        obs: "frame" for the last frame [H, W, 3], "frames" for all frames of the step [H, W, 3F].
        horizon: steps until truncated; None leaves the limit to `max_ticks`.
        max_ticks: ticks until truncated; None means 2100 (or `horizon` steps). Give one of the two at most.
        render_mode: None, "rgb_array" (last frame), "rgb_array_list" (all frames of the step) or "human".
        info_frames: put the frames of the step, [F, H, W, 3], into `info["frames"]`.
        action_chunks: the action space holds one action for each frame of a step.
    """

    fps: ClassVar[int]
    """Ticks per second."""
    frames_per_step: ClassVar[int] = 4
    """Ticks per step, each with its frame."""
    resolution: ClassVar[tuple[int, int]] = (64, 64)
    """Height and width of a frame."""
    num_actions: ClassVar[int]
    """Size of the action space."""
    action_names: ClassVar[tuple[str, ...]] = ()
    """What the actions are called, one name each."""

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012

    def __init__(
        self,
        obs: str = "frame",
        horizon: int | None = None,
        max_ticks: int | None = None,
        render_mode: str | None = None,
        info_frames: bool = False,
        action_chunks: bool = False,
    ):
        if obs not in ("frame", "frames"):
            raise ConfigError(f'got obs={obs!r}; expected "frame" or "frames" (a simulator has no latents)')
        self.obs = obs
        self.max_ticks = _tick_limit(horizon, max_ticks, self.frames_per_step)
        self.horizon = -(-self.max_ticks // self.frames_per_step)
        self.render_mode = one_of("render_mode", render_mode, [None, *RENDER_MODES])
        self.info_frames = check_flag("info_frames", info_frames)
        per_render = self.frames_per_step if render_mode == "rgb_array" else 1
        self.metadata = {**self.metadata, "render_fps": self.fps / per_render}
        actions = ActionConfig(num_actions=self.num_actions, names=list(self.action_names))
        chunks = check_flag("action_chunks", action_chunks)
        self.action_space = world_action_space(actions, self.frames_per_step if chunks else None)
        self.observation_space = (
            frame_space(self.resolution) if obs == "frame" else frames_space(self.resolution, self.frames_per_step)
        )
        self.tick = 0
        """Ticks since the reset."""
        self._frames: np.ndarray | None = None
        self._running = False
        self._closed = False
        self._screen = Screen(type(self).__name__, float(self.fps))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: names the episode; without it the next one is drawn from the environment's own generator.
            options: `{"god": True}` for an episode without a real end.

        Returns:
            The first observation (with "frames", the reset frame F times) and the info.

        Raises:
            ConfigError: if an option is unknown.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        god = check_flag("god", check_options(options, "god").get("god", False))
        super().reset(seed=seed)
        game_seed = int(self.np_random.integers(2**32, dtype=np.uint32))
        frame = self._begin(game_seed, god)
        self.tick = 0
        self._running = True
        self._frames = np.broadcast_to(frame, (self.frames_per_step, *frame.shape))
        if self.render_mode == "human":
            self._screen.show(self._frames[-1:])
        return self._observation(), self._info(end_frame=self.frames_per_step)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Repeat one action for `frames_per_step` ticks, or take one for each, up to the end.

        Args:
            action: an integer of the action space or its name; or `frames_per_step` of them, one for each tick.

        Returns:
            Observation, reward summed over the ticks, terminated, truncated, info. `info["end_frame"]` is the
            index of the frame at which it terminated, or `frames_per_step`.

        Raises:
            ActionError: if it is none of these.
            ResetNeededError: before the first reset, and after an end.
            EnvironmentClosedError: after `close`.
        """
        self._check_running()
        actions = check_discrete_step(action, self.num_actions, self.action_names, self.frames_per_step)
        ticks = self._advance(actions)
        info = self._info(end_frame=len(ticks.frames) - 1 if ticks.terminated else self.frames_per_step)
        reward = float(ticks.rewards.sum())
        return self._observation(), reward, ticks.terminated, ticks.truncated, info

    def step_ticks(self, actions: Any) -> Ticks:
        """Advance by single ticks, each with its own action, or up to the end.

        Args:
            actions: 1 to `frames_per_step` integers of the action space, or names of actions.

        Returns:
            The ticks.

        Raises:
            ActionError: if an action is not of the action space, or there are too few or too many.
            ResetNeededError: before the first reset, and after an end.
            EnvironmentClosedError: after `close`.
        """
        self._check_running()
        checked = check_discrete_sequence(actions, self.num_actions, self.action_names, self.frames_per_step)
        return self._advance(checked)

    def frames(self) -> UInt8[np.ndarray, "F H W 3"]:
        """All frames of the last step, the last valid one repeated after an end.

        Returns:
            uint8 [F, H, W, 3], the caller's own copy.

        Raises:
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        return self._begun().copy()

    def variables(self) -> dict[str, float]:
        """The simulator's variables after the last tick, by name.

        Raises:
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        self._begun()
        return self._variables()

    def render(self) -> np.ndarray | list[np.ndarray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return what `render_mode` asks for; "human" draws at every step instead and returns None."""
        if self.render_mode in (None, "human"):
            self._check_open()
            return None
        frames = self.frames()
        return frames[-1] if self.render_mode == "rgb_array" else list(frames)

    def close(self) -> None:
        """Release the simulator and the window. A second call does nothing."""
        self._closed = True
        self._running = False
        self._screen.close()

    @abstractmethod
    def _begin(self, game_seed: int, god: bool) -> np.ndarray:
        """Start the episode that `game_seed` (32 bits) names; returns its first frame, uint8 [H, W, 3]."""

    @abstractmethod
    def _tick(self, action: int) -> tuple[np.ndarray | None, float, bool]:
        """Advance one tick; returns the frame (None if there is none after an end), the reward, the end."""

    @abstractmethod
    def _variables(self) -> dict[str, float]:
        """The simulator's variables now."""

    def _advance(self, actions: np.ndarray) -> Ticks:
        assert self._frames is not None
        last = self._frames[-1]
        frames: list[np.ndarray] = []
        rewards: list[float] = []
        variables: list[dict[str, float]] = []
        terminated = truncated = False
        for action in actions.tolist():
            frame, reward, terminated = self._tick(action)
            last = last if frame is None else frame
            frames.append(last)
            rewards.append(reward)
            variables.append(self._variables())
            self.tick += 1
            truncated = not terminated and self.tick >= self.max_ticks
            if terminated or truncated:
                self._running = False
                break
        if self.render_mode == "human":
            self._screen.show(frames)
        self._frames = np.stack(frames + [last] * (self.frames_per_step - len(frames)))
        return Ticks(
            frames=self._frames[: len(frames)].copy(),
            rewards=np.array(rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            variables={name: np.array([row[name] for row in variables], np.float32) for name in variables[0]},
        )

    def _observation(self) -> np.ndarray:
        assert self._frames is not None
        return self._frames[-1].copy() if self.obs == "frame" else stack_channels(self._frames)

    def _info(self, *, end_frame: int) -> dict[str, Any]:
        info: dict[str, Any] = {"variables": self._variables(), "tick": self.tick, "end_frame": end_frame}
        if self.info_frames:
            info["frames"] = self.frames()
        return info

    def _check_open(self) -> None:
        if self._closed:
            raise EnvironmentClosedError("got a call after close(); expected an open environment: make a new one")

    def _begun(self) -> np.ndarray:
        """The frames of the last step, once there is one."""
        self._check_open()
        if self._frames is None:
            raise ResetNeededError("got a call before the first reset; expected an episode: call reset()")
        return self._frames

    def _check_running(self) -> None:
        self._check_open()
        if not self._running:
            where = "before the first reset" if self._frames is None else "after the end of the episode"
            raise ResetNeededError(f"got a step {where}; expected a running episode: call reset()")


def _tick_limit(horizon: int | None, max_ticks: int | None, frames_per_step: int) -> int:
    if horizon is not None and max_ticks is not None:
        raise ConfigError(f"got both horizon={horizon} and max_ticks={max_ticks}; expected one of them")
    if max_ticks is not None:
        return check_count("max_ticks", max_ticks)
    return DEFAULT_MAX_TICKS if horizon is None else check_count("horizon", horizon) * frames_per_step
