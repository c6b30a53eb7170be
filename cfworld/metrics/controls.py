"""Degenerate controls: worlds that a good metric must not be fooled by.

Each has the interface of a world. `freeze` and `loop` show real frames and generate nothing, `blur`
softens what another world shows, `shuffled` gives another world the wrong actions, `immortal` takes
its heads away, and `indifferent` finds nothing odd.
Every metric has a test that the controls which aim at it fail its bar.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.metrics.images import blurred
from cfworld.metrics.rollouts import WorldLike
from cfworld.world import StepOutput, World

__all__ = ["CONTROLS", "Blur", "Freeze", "Immortal", "Loop", "ShuffledActions", "indifferent", "make_control"]


class _Around:
    """A world that passes everything on to another one."""

    def __init__(self, world: WorldLike) -> None:
        self.world = world
        self.config = world.config
        self.tokenizer = world.tokenizer
        self.device = getattr(world, "device", torch.device("cpu"))

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Any, Any]:
        """Begin as the other world does."""
        return self.world.initial(seeds=seeds, starts=starts)

    def step(self, state: Any, actions: Any, *, decode: bool = True) -> tuple[Any, Any]:
        """Step as the other world does."""
        return self.world.step(state, actions, decode=decode)


@dataclass(frozen=True, kw_only=True, slots=True)
class Playback:
    """State of a world that shows what it was given."""

    frames: UInt8[np.ndarray, "B P H W 3"]
    """The frames of the starts."""
    shown: int
    """Frames shown since."""

    def select(self, rows: Sequence[int]) -> "Playback":
        """The given rows."""
        return replace(self, frames=self.frames[list(rows)])


class Freeze(_Around):
    """Shows the last real frame for ever, gives no reward and never ends."""

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Playback, UInt8[np.ndarray, "B F H W 3"]]:
        """Keep the frames of the starts, which must be given."""
        del seeds
        if starts is None:
            raise ConfigError("a control shows the frames of its starts; give `starts`")
        frames = np.stack([start.frames for start in starts])
        return Playback(frames=frames, shown=0), frames[:, -self.config.frames_per_step :]

    def step(self, state: Playback, actions: Any, *, decode: bool = True) -> tuple[Playback, StepOutput]:
        """Show the next frames, whatever the actions."""
        del actions, decode
        per_step = self.config.frames_per_step
        frames = state.frames[:, self._places(state, per_step)]
        return replace(state, shown=state.shown + per_step), _lifeless(torch.from_numpy(frames))

    def _places(self, state: Playback, per_step: int) -> np.ndarray:
        """Which of the frames are shown next."""
        return np.full(per_step, state.frames.shape[1] - 1)


class Loop(Freeze):
    """Shows the real frames of the start over and over: every frame is perfect, and none is an answer."""

    def _places(self, state: Playback, per_step: int) -> np.ndarray:
        return (state.shown + np.arange(per_step)) % state.frames.shape[1]


class Blur(_Around):
    """Softens what a world shows."""

    def step(self, state: Any, actions: Any, *, decode: bool = True) -> tuple[Any, Any]:
        """Step the other world and blur its frames."""
        state, output = self.world.step(state, actions, decode=decode)
        if output.frames is None:
            return state, output
        return state, replace(output, frames=torch.from_numpy(blurred(_array(output.frames))))


class Immortal(_Around):
    """Takes a world's reward and end away."""

    def step(self, state: Any, actions: Any, *, decode: bool = True) -> tuple[Any, Any]:
        """Step the other world and keep only what it shows."""
        state, output = self.world.step(state, actions, decode=decode)
        return state, replace(
            output,
            reward=torch.zeros_like(output.reward),
            reward_frames=torch.zeros_like(output.reward_frames),
            hazard=torch.zeros_like(output.hazard),
            terminated=torch.zeros_like(output.terminated),
            end_frame=torch.full_like(output.end_frame, self.config.frames_per_step),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Shuffled:
    """State of a world whose actions are mistaken for one another."""

    inner: Any
    """State of the world itself."""
    draws: np.ndarray
    """A number of [0, 1) for each row and each action or component, float64 [B, A]."""

    def select(self, rows: Sequence[int]) -> "Shuffled":
        """The given rows."""
        return Shuffled(inner=self.inner.select(rows), draws=self.draws[list(rows)])


class ShuffledActions(_Around):
    """Mistakes the actions of each row for one another, in a way drawn from its seed for the episode.

    Discrete actions are permuted, and the components of continuous ones mirrored or not.
    """

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Shuffled, Any]:
        """Begin as the other world does, and draw each row's mistake."""
        state, frames = self.world.initial(seeds=seeds, starts=starts)
        settings = self.config.actions
        size = settings.num_actions or len(settings.low)
        draws = [np.random.default_rng(int(seed)).random(size) for seed in seeds]
        return Shuffled(inner=state, draws=np.stack(draws)), frames

    def step(self, state: Shuffled, actions: Any, *, decode: bool = True) -> tuple[Shuffled, Any]:
        """Step the other world with the mistaken actions."""
        inner, output = self.world.step(state.inner, self._mistaken(np.asarray(actions), state), decode=decode)
        return replace(state, inner=inner), output

    def _mistaken(self, actions: np.ndarray, state: Shuffled) -> np.ndarray:
        settings = self.config.actions
        if settings.num_actions:
            rows = np.arange(len(actions)).reshape(-1, *(1 for _ in actions.shape[1:]))
            return state.draws.argsort(axis=1)[rows, actions]
        draws = state.draws.reshape(len(actions), *(1 for _ in actions.shape[2:]), -1)
        mirrored = np.asarray(settings.low) + np.asarray(settings.high) - actions
        return np.where(draws < 0.5, mirrored, actions).astype(np.float32)


def indifferent(world: WorldLike) -> WorldLike:
    """The same world with a novelty score that finds everything as odd as anything else."""
    blind: Any = copy.copy(world)
    if isinstance(world, World) and world.novelty is not None:
        nothing = torch.zeros_like(world.novelty.before)
        blind.novelty = replace(world.novelty, before=nothing, after=nothing, offset=nothing[0])
    return blind


CONTROLS: Mapping[str, Callable[[WorldLike], WorldLike]] = {
    "freeze": Freeze,
    "loop": Loop,
    "blur": Blur,
    "shuffled": ShuffledActions,
    "immortal": Immortal,
    "indifferent": indifferent,
}
"""The controls by their names on the command line."""


def make_control(name: str, world: WorldLike) -> WorldLike:
    """Build a control.

    Raises:
        ConfigError: if there is no such control.
    """
    if name not in CONTROLS:
        raise ConfigError(f"there is no control {name!r}; expected some of {', '.join(CONTROLS)}")
    return CONTROLS[name](world)


def _lifeless(frames: Tensor) -> StepOutput:
    """An output without latents, reward or end."""
    rows, per_step = frames.shape[:2]
    nothing = torch.zeros(rows, per_step)
    return StepOutput(
        frames=frames,
        latents=torch.zeros(rows, 0),
        reward=torch.zeros(rows),
        reward_frames=nothing,
        hazard=nothing,
        terminated=torch.zeros(rows, dtype=torch.bool),
        end_frame=torch.full((rows,), per_step),
        novelty=torch.full((rows,), torch.nan),
    )


def _array(frames: Tensor | np.ndarray) -> np.ndarray:
    return frames.cpu().numpy() if isinstance(frames, Tensor) else frames
