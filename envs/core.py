"""What the single and the vector environment share: functions over a state with rows, none of which is kept here."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from cfworld.envs.arguments import (
    check_ends,
    check_flag,
    check_function,
    check_horizon,
    check_starts,
    check_threshold,
    one_of,
)
from cfworld.envs.env_state import EnvState
from cfworld.envs.host import to_host
from cfworld.envs.latents import flat_latents
from cfworld.envs.rendering import RENDER_MODES
from cfworld.envs.rewards import StepFunction, with_functions
from cfworld.envs.seeding import episode_seed
from cfworld.envs.spaces import world_action_space
from cfworld.envs.starts import ChosenStart, find_start
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig
from cfworld.world import World
from cfworld.world.output import hold_after

__all__ = ["EnvCore", "OfCore", "RowsStep", "make_core"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RowsStep:
    """What one step gave, NumPy arrays, or tensors on the world's device.

    Attributes:
        observation: [B, ...], the caller's own.
        reward: [B].
        terminated: [B] bool.
        truncated: [B] bool; never true together with `terminated`.
        infos: "hazard" and "reward_frames", float32 [B, F], "end_frame", int64 [B]; in a world with a novelty score
            also "novelty", float32 [B], and "truncated_by_novelty", [B] bool.
    """

    observation: Any
    reward: Any
    terminated: Any
    truncated: Any
    infos: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvCore:
    """How episodes begin, go on and are seen: the arguments of an environment, checked."""

    world: World
    obs: str
    horizon: int
    reward_fn: StepFunction | None
    termination_fn: StepFunction | None
    truncate_above: float | None
    starts: list[ChosenStart] | None
    render_mode: str | None
    info_frames: bool
    action_chunks: bool

    @property
    def action_space(self) -> spaces.Space[Any]:
        """Of one row."""
        config = self.world.config
        return world_action_space(config.actions, config.frames_per_step if self.action_chunks else None)

    @property
    def decodes(self) -> bool:
        """Whether the frames of every step are looked at."""
        has_functions = self.reward_fn is not None or self.termination_fn is not None
        return self.obs != "latent" or has_functions or self.info_frames or self.render_mode == "human"

    @property
    def start_names(self) -> list[int | str] | None:
        """The names of the starts that episodes draw from; None for all of the world's own."""
        return None if self.starts is None else [start.name for start in self.starts]

    @property
    def render_fps(self) -> float:
        """Frames a second of what `render` returns."""
        config = self.world.config
        return config.fps / (config.frames_per_step if self.render_mode == "rgb_array" else 1)

    def begin(self, seeds: Sequence[int], episodes: Sequence[int], starts: Sequence[Any]) -> EnvState:
        """Begin one episode a row.

        Args:
            seeds: each row's seed.
            episodes: number of the episode since the row was given that seed.
            starts: what `find_start` takes; None draws a start by seed and episode.

        Raises:
            StartError: if there is no such start, or it does not fit the world.
        """
        row_seeds = [episode_seed(seed, episode) for seed, episode in zip(seeds, episodes, strict=True)]
        given = {id(start): find_start(start, self.world) for start in starts if start is not None}
        chosen = [
            self._drawn_start(row_seed) if start is None else given[id(start)]
            for row_seed, start in zip(row_seeds, starts, strict=True)
        ]
        world, frames = self.world.initial(row_seeds, [start.start for start in chosen], decode=self.decodes)
        rows = len(row_seeds)
        return EnvState(
            world=world,
            steps=np.zeros(rows, np.int64),
            horizon=np.full(rows, self.horizon, np.int64),
            seeds=tuple(seeds),
            episodes=np.array(episodes, np.int64),
            starts=tuple(start.name for start in chosen),
            end_frame=torch.full((rows,), self.world.config.frames_per_step, device=self.world.device),
            ended=np.zeros(rows, np.bool_),
            frames=frames,
        )

    def advance(self, state: EnvState, actions: Tensor, *, tensors: bool = False) -> tuple[EnvState, RowsStep]:
        """Step every row; the given state stays as it is.

        Args:
            state: where the rows are.
            actions: every row's and frame's action, [B, F, ...]; see `cfworld.envs.actions`.
            tensors: leave everything on the device. Which rows have ended comes over all the same.

        Raises:
            ActionError: if an action is not of the action space.
            ShapeError: if a function of the user's gives neither a value per row nor one per frame.
            ConfigError: if it gives an end that is no bool, or a reward that is no finite number.
        """
        world, out = self.world.step(state.world, actions, decode=self.decodes)
        out = with_functions(out, self.reward_fn, self.termination_fn)
        observation = self._view(out.latents, out.frames)
        lost = ~out.terminated & (out.novelty > (math.inf if self.truncate_above is None else self.truncate_above))
        seen = {"end_frame": out.end_frame, "hazard": out.hazard, "reward_frames": out.reward_frames}
        if self.world.novelty is not None:
            seen |= {"novelty": out.novelty, "truncated_by_novelty": lost}
        if tensors:
            reward, *parts = (part.clone() for part in (out.reward, *seen.values()))
            dead, odd = to_host(out.terminated, lost)
        else:
            reward, *parts, observation, dead, odd = to_host(
                out.reward, *seen.values(), observation, out.terminated, lost
            )
            reward = reward.astype(np.float64)
        steps = state.steps + 1
        late = ~dead & (odd | (steps >= state.horizon))
        following = dataclasses.replace(
            state, world=world, steps=steps, end_frame=out.end_frame.clone(), ended=dead | late, frames=out.frames
        )
        return following, RowsStep(
            observation=observation,
            reward=reward,
            terminated=out.terminated.clone() if tensors else dead,
            truncated=torch.as_tensor(late).to(self.world.device) if tensors else late,
            infos=dict(zip(seen, parts, strict=True)),
        )

    def observe(self, state: EnvState) -> Tensor:
        """What each row sees, a new tensor [B, ...]; the state's frames are needed unless obs="latent"."""
        return self._view(state.world.latents, state.frames)

    def decoded(self, state: EnvState) -> EnvState:
        """The state with its frames, decoded if nobody has looked at them yet."""
        if state.frames is not None:
            return state
        frames = hold_after(self.world.frames(state.world), state.end_frame)
        return dataclasses.replace(state, frames=frames)

    def _drawn_start(self, row_seed: int) -> ChosenStart:
        if self.starts is None:
            drawn = self.world.start_of(row_seed)
            return ChosenStart(start=drawn, name=drawn if isinstance(drawn, int) else drawn.name)
        return self.starts[int(np.random.default_rng(row_seed).integers(len(self.starts)))]

    def _view(self, latents: Tensor, frames: Tensor | None) -> Tensor:
        if self.obs == "latent":
            return flat_latents(latents)
        assert frames is not None
        return frames[:, -1].clone() if self.obs == "frame" else torch.cat(frames.unbind(1), dim=-1)


class OfCore:
    """What the environments were made with, to look at: to change it, make another one."""

    _core: EnvCore

    @property
    def world(self) -> World:
        """The generated world."""
        return self._core.world

    @property
    def horizon(self) -> int:
        """Steps until an episode that begins is truncated."""
        return self._core.horizon

    @property
    def starts(self) -> list[int | str] | None:
        """Names of the starts that episodes draw from; None for all of the world's own."""
        return self._core.start_names

    @property
    def num_frames(self) -> int:
        """Frames per step, F."""
        return self.world.config.frames_per_step


def make_core(
    world: str | Path | World,
    *,
    variant: str | None = None,
    device: str | None = None,
    obs: str = "frame",
    horizon: int | None = None,
    reward_fn: StepFunction | None = None,
    termination_fn: StepFunction | None = None,
    ends: str | None = None,
    truncate_above: float | None = None,
    starts: Sequence[Any] | np.ndarray | None = None,
    render_mode: str | None = None,
    info_frames: bool = False,
    memory: MemoryConfig | str | None = None,
    action_chunks: bool = False,
) -> EnvCore:
    """Check the arguments that both environments take; see `WorldEnv`."""
    rule = check_ends(ends, replaced=termination_fn is not None)
    found = _world(world, variant, device, memory)
    found = found if rule is None else found.with_ends(rule)
    return EnvCore(
        world=found,
        obs=obs,
        horizon=check_horizon(horizon, found.config.horizon_frames, found.config.frames_per_step),
        reward_fn=check_function("reward_fn", reward_fn),
        termination_fn=check_function("termination_fn", termination_fn),
        truncate_above=check_threshold(truncate_above, found),
        starts=check_starts(starts, found),
        render_mode=one_of("render_mode", render_mode, [None, *RENDER_MODES]),
        info_frames=check_flag("info_frames", info_frames),
        action_chunks=check_flag("action_chunks", action_chunks),
    )


def _world(
    world: str | Path | World,
    variant: str | None,
    device: str | None,
    memory: MemoryConfig | str | None,
) -> World:
    if not isinstance(world, World):
        world = World.from_pretrained(world, variant=variant, device="cpu" if device is None else device, memory=memory)
    elif any(given is not None for given in (variant, device, memory)):
        raise ConfigError(
            f"got variant={variant!r}, device={device!r}, memory={memory!r} beside a World that is built; expected none"
        )
    return world
