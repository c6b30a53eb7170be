"""A generated world as a Gymnasium environment: a thin shell around the world's pure step function."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from jaxtyping import UInt8

from cfworld.envs.arguments import check_horizon, check_options, check_starts, one_of
from cfworld.envs.env_state import EnvState, check_snapshot
from cfworld.envs.rendering import Window
from cfworld.envs.seeding import episode_seed
from cfworld.envs.spaces import (
    LATENT_BOUND,
    stack_channels,
    world_action_space,
    world_observation_space,
)
from cfworld.errors import ActionError, ConfigError, EnvironmentClosedError, ResetNeededError, ShapeError
from cfworld.memory import MemoryConfig
from cfworld.prompts.base import as_tensor
from cfworld.world import Ends, Start, StepOutput, World

__all__ = ["EnvState", "StepFunction", "WorldEnv"]

StepFunction = Callable[[StepOutput], Any]
"""From the output of a step to one value per row, [B]: a tensor, an array or a sequence."""


class WorldEnv(gym.Env[np.ndarray, Any]):
    """An agent lives in a generated world.

    ## Description
    Every step generates the next chunk of video under the action, `frames_per_step` frames, with its reward
    and its end. The world is a learned one, so it may do what the simulator that it learned from would not.

    ## Action Space
    The world's own: `Discrete(n)`, or a bounded `Box`. The action holds for all frames of the step.

    ## Observation Space
    By `obs`: "frame", the last frame, uint8 [H, W, 3]; "frames", all frames of the step stacked on the
    channel axis, uint8 [H, W, 3F]; "latent", the chunk's latents, a flat float32 box.

    ## Rewards
    The sum over the frames of the step, up to the end, by the world's reward head or by `reward_fn`.

    ## Starting State
    A short real prefix, drawn from the world's starts by the seed or named by `options={"start": ...}`; the
    first observation shows its last frames. `info["start"]` says which one it was.

    ## Episode End
    `terminated` by the world's hazard head (drawn with the episode's own noise) or by `termination_fn`;
    `truncated` after `horizon` steps. The two are never both true.

    ## Version History
    v0: first release.

    Args:
        world: a world of the zoo, a checkpoint folder, or a `World`.
        variant: "student" or "teacher"; None takes the best there is.
        device: where the world computes; None means "cpu".
        obs: "frame", "frames" or "latent".
        horizon: steps until truncated; None takes the world's own.
        reward_fn: gives the reward [B] of a step in place of the reward head. It always sees frames: with it or
            `termination_fn` every step is decoded, even under obs="latent". If it raises, the step has not happened.
        termination_fn: says, [B] bool, whether an episode ends with the step, in place of the hazard head.
        starts: the starts to draw from, indices or `Start`s; None means all of the world's.
        render_mode: None, "rgb_array" (last frame), "rgb_array_list" (all frames of the step) or "human".
        info_frames: put the frames of the step, [F, H, W, 3], into `info["frames"]`.
        memory: another memory than the world's own, a `MemoryConfig` or the name of a preset: context_forcing,
            fast_only, infinity_rope, longlive, self_forcing or uniform.

    Raises:
        ConfigError: if an argument is none of these.
        StartError: if one of `starts` does not exist, or does not fit the world.
        UnknownWorldError: if there is no such world.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "rgb_array_list", "human"]}  # noqa: RUF012

    def __init__(
        self,
        world: str | Path | World,
        variant: str | None = None,
        device: str | None = None,
        obs: str = "frame",
        horizon: int | None = None,
        reward_fn: StepFunction | None = None,
        termination_fn: StepFunction | None = None,
        starts: Sequence[int | Start] | np.ndarray | None = None,
        render_mode: str | None = None,
        info_frames: bool = False,
        memory: MemoryConfig | str | None = None,
    ):
        self.world = _world(world, variant, device, memory, has_ends=termination_fn is None)
        config = self.world.config
        self.horizon = check_horizon(horizon, config.horizon_frames, config.frames_per_step)
        self.reward_fn = reward_fn
        self.termination_fn = termination_fn
        self.starts = check_starts(starts, self.world)
        self.obs = obs
        self.render_mode = one_of("render_mode", render_mode, [None, *self.metadata["render_modes"]])
        self.info_frames = info_frames
        per_render = config.frames_per_step if render_mode == "rgb_array" else 1
        self.metadata = {**self.metadata, "render_fps": config.fps / per_render}
        self.observation_space = world_observation_space(obs, config)
        self.action_space = world_action_space(config.actions)
        self._state: EnvState | None = None
        self._closed = False
        self._window: Window | None = None

    @property
    def num_frames(self) -> int:
        """Frames per step, F."""
        return self.world.config.frames_per_step

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: names the episode, and those that follow it without a seed of their own.
            options: `{"start": ...}`, an index into the world's starts or a `Start`.

        Returns:
            The first observation, and the info with "start" and "end_frame".

        Raises:
            ConfigError: if `options` is no mapping, or an option is unknown.
            StartError: if there is no such start, or it does not fit the world.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        super().reset(seed=seed)
        if seed is not None or self._state is None:
            seed, episode = int(self.np_random.integers(2**63)) if seed is None else seed, 0
        else:
            seed, episode = self._state.seed, self._state.episode + 1
        row_seed = episode_seed(seed, episode)
        start = self._chosen_start(row_seed, options)
        world, frames = self.world.initial(seeds=[row_seed], starts=[start])
        self._state = EnvState(
            world=world,
            steps=0,
            seed=seed,
            episode=episode,
            start=start,
            end_frame=self.num_frames,
            ended=False,
            frames=frames[0].cpu().numpy(),
        )
        self._show()
        return self._observation(), self._info({})

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Generate the next chunk under an action.

        Args:
            action: an element of the action space.

        Returns:
            Observation, reward, terminated, truncated, info. The info holds "hazard" and "reward_frames",
            float32 [F], "end_frame", the frame at which the episode ended or F, and "start".

        Raises:
            ActionError: if the action is not of the action space.
            ResetNeededError: before the first reset, and after an end.
            EnvironmentClosedError: after `close`.
        """
        before = self._running()
        world, out = self.world.step(before.world, self._batched(action), decode=self._decodes)
        reward = float(out.reward[0]) if self.reward_fn is None else _value(self.reward_fn(out), "reward_fn")
        terminated, end_frame = bool(out.terminated[0]), int(out.end_frame[0])
        if self.termination_fn is not None:
            terminated = bool(_value(self.termination_fn(out), "termination_fn"))
            end_frame = self.num_frames - terminated
        truncated = not terminated and before.steps + 1 >= self.horizon
        self._state = dataclasses.replace(
            before,
            world=world,
            steps=before.steps + 1,
            end_frame=end_frame,
            ended=terminated or truncated,
            frames=None if out.frames is None else out.frames[0].cpu().numpy(),
        )
        self._show()
        heads = {"hazard": out.hazard[0].cpu().numpy(), "reward_frames": out.reward_frames[0].cpu().numpy()}
        return self._observation(), reward, terminated, truncated, self._info(heads)

    def get_state(self) -> EnvState:
        """Take a snapshot: a value that later steps leave as it is.

        Raises:
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        return self._begun()

    def set_state(self, snapshot: EnvState) -> None:
        """Go to a snapshot of this environment, or of another one of the same world.

        What follows is exactly what followed there under the same actions.

        Raises:
            StateError: if it is no snapshot, or one of another world, other weights or another memory.
            DonatedStateError: if its world state has been donated to `World.step`.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        self._state = check_snapshot(snapshot, self.world)

    def frames(self) -> UInt8[np.ndarray, "F H W 3"]:
        """All frames of the last step, decoded on demand; the last valid one is repeated after an end.

        Returns:
            uint8 [F, H, W, 3], the caller's own copy.

        Raises:
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        return self._decoded().copy()

    def render(self) -> Any:
        """Return what `render_mode` asks for; "human" draws at every step instead and returns None."""
        if self.render_mode in (None, "human"):
            self._check_open()
            return None
        frames = self.frames()
        return frames[-1] if self.render_mode == "rgb_array" else list(frames)

    def close(self) -> None:
        """Release the window. A second call does nothing."""
        self._closed = True
        if self._window is not None:
            self._window.close()
            self._window = None

    @property
    def _decodes(self) -> bool:
        """Whether the frames of every step are looked at."""
        has_functions = self.reward_fn is not None or self.termination_fn is not None
        return self.obs != "latent" or has_functions or self.info_frames or self.render_mode == "human"

    def _observation(self) -> np.ndarray:
        if self.obs == "latent":
            latents = self._begun().world.latents[0].flatten().float().cpu().numpy()
            return np.clip(latents, -LATENT_BOUND, LATENT_BOUND)
        frames = self._decoded()
        return frames[-1].copy() if self.obs == "frame" else stack_channels(frames)

    def _info(self, heads: dict[str, np.ndarray]) -> dict[str, Any]:
        state = self._begun()
        info: dict[str, Any] = {"start": state.start, "end_frame": state.end_frame, **heads}
        if self.info_frames:
            info["frames"] = self.frames()
        return info

    def _decoded(self) -> np.ndarray:
        state = self._begun()
        if state.frames is None:
            frames = self.world.decode(state.world.latents)[0].cpu().numpy()
            frames = frames[np.minimum(np.arange(self.num_frames), state.end_frame)]
            self._state = dataclasses.replace(state, frames=frames)
            return frames
        return state.frames

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        if self._window is None:
            self._window = Window(self.world.config.name, self.world.config.resolution, self.world.config.fps)
        for frame in self._decoded():
            self._window.show(frame)

    def _chosen_start(self, row_seed: int, options: dict[str, Any] | None) -> int | Start:
        named = check_options(options)
        if named is not None:
            return named
        if self.starts is None:
            return self.world.start_of(row_seed)
        return self.starts[int(np.random.default_rng(row_seed).integers(len(self.starts)))]

    def _batched(self, action: Any) -> torch.Tensor:
        """One row of actions; the world checks their values."""
        tensor = as_tensor(action).cpu()
        if tensor.shape != self.action_space.shape:
            raise ActionError(
                f"got an action of shape {tuple(tensor.shape)}; expected {self.action_space.shape}: pass one action, "
                "which holds for the whole step"
            )
        return tensor[None]

    def _check_open(self) -> None:
        if self._closed:
            raise EnvironmentClosedError("got a call after close(); expected an open environment: make a new one")

    def _begun(self) -> EnvState:
        self._check_open()
        if self._state is None:
            raise ResetNeededError("got a call before the first reset; expected an episode: call reset()")
        return self._state

    def _running(self) -> EnvState:
        state = self._begun()
        if state.ended:
            raise ResetNeededError("got a step after the end of the episode; expected a running one: call reset()")
        return state


def _world(
    world: str | Path | World,
    variant: str | None,
    device: str | None,
    memory: MemoryConfig | str | None,
    has_ends: bool,
) -> World:
    if not isinstance(world, World):
        world = World.from_pretrained(world, variant=variant, device=device or "cpu", memory=memory)
    elif any(given is not None for given in (variant, device, memory)):
        raise ConfigError(
            f"got variant={variant!r}, device={device!r}, memory={memory!r} beside a World that is built; expected none"
        )
    if has_ends:
        return world
    config = dataclasses.replace(world.config, ends=Ends.NEVER)
    return World(config, world.tokenizer, world.generator, world.starts, variant=world.variant, device=world.device)


def _value(values: Any, name: str) -> float:
    """The single row's value of what a user's function gave."""
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if array.shape != (1,):
        raise ShapeError(f"got an array of shape {array.shape} from {name}; expected one value per row, (1,)")
    return float(array[0])
