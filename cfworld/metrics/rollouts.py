"""What a world generates from a start, beside the recording that it is judged against."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped, UInt8
from torch import Tensor

from cfworld.metrics.progress import Bar, Progress, silent_bar
from cfworld.metrics.recordings import Recording
from cfworld.world import Ends, Start, World, WorldState

W = TypeVar("W")

__all__ = [
    "Rollout",
    "WorldLike",
    "begin",
    "endless",
    "reconstructed",
    "rollout",
    "steps_of",
    "tokenizer_rollout",
]


@runtime_checkable
class WorldLike(Protocol):
    """What the metrics use of `cfworld.World`; the degenerate controls have it too."""

    @property
    def config(self) -> Any:
        """The world's configuration: fps, frames_per_step, frames_per_latent, resolution, source, ..."""
        ...

    @property
    def tokenizer(self) -> Any:
        """Frames to latents and back."""
        ...

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Any, Any]:
        """Begin one row per seed."""
        ...

    def step(self, state: Any, actions: Any, *, decode: bool = True) -> tuple[Any, Any]:
        """Generate the next chunk of every row."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """What a world made of B starts in S steps of F frames."""

    frames: Mapping[int, UInt8[np.ndarray, "B F H W 3"]]
    """The frames of the steps that were decoded, by the step's index."""
    rewards: Float32[np.ndarray, "B T"]
    """The predicted reward of each tick, T = S F."""
    hazards: Float32[np.ndarray, "B T"]
    """The predicted probability of ending at each tick."""
    promotions: Int64[np.ndarray, " B"] | None = None
    """Chunks promoted to slow memory in these steps; None for what has no memory of ours."""

    def at(self, ticks: Sequence[int]) -> UInt8[np.ndarray, "B n H W 3"]:
        """The frames after the given ticks; their steps must have been decoded."""
        per_step = next(iter(self.frames.values())).shape[1]
        return np.stack([self.frames[tick // per_step][:, tick % per_step] for tick in ticks], axis=1)


def steps_of(ticks: Sequence[int], frames_per_step: int) -> set[int]:
    """The steps that hold the frames of the given ticks."""
    return {tick // frames_per_step for tick in ticks}


def rollout(
    world: WorldLike,
    recordings: Sequence[Recording],
    *,
    actions: Shaped[np.ndarray, "B T *A"] | None = None,
    decode: set[int] | None = None,
    batch: int = 32,
    bar: Bar = silent_bar,
    title: str = "generate",
) -> Rollout:
    """Let a world continue recorded starts.

    Args:
        world: the world.
        recordings: B starts.
        actions: what to do after the start; the recordings' own actions by default.
        decode: the steps whose frames are wanted; all by default.
        batch: rows generated together.
        bar: counts row-steps.
        title: what the bar says.

    Returns:
        What the world made. The last action is repeated to fill the last step.
    """
    if actions is None:
        actions = np.stack([recording.actions for recording in recordings])
    per_step = world.config.frames_per_step
    actions = _whole_steps(actions, per_step)
    with bar(title, len(recordings) * actions.shape[1] // per_step, "row-step") as progress:
        parts = [
            _rollout_chunk(world, recordings[i : i + batch], actions[i : i + batch], decode, progress)
            for i in range(0, len(recordings), batch)
        ]
    return Rollout(
        frames={step: np.concatenate([part.frames[step] for part in parts]) for step in parts[0].frames},
        rewards=np.concatenate([part.rewards for part in parts]),
        hazards=np.concatenate([part.hazards for part in parts]),
        promotions=_joined([part.promotions for part in parts]),
    )


def begin(world: WorldLike, recordings: Sequence[Recording]) -> Any:
    """State of a world at recorded starts, each row with its recording's seed."""
    starts = [Start(frames=recording.prefix, actions=recording.prefix_actions) for recording in recordings]
    state, _ = world.initial(seeds=[recording.seed for recording in recordings], starts=starts)
    return state


def endless(world: W) -> W:
    """The same world with episodes that do not end, so that no frame is held after a drawn end."""
    lasting: Any = world.with_ends(Ends.NEVER) if isinstance(world, World) else copy.copy(world)
    if hasattr(world, "world"):  # a control around a world
        lasting.world = endless(lasting.world)
    return lasting


def tokenizer_rollout(world: WorldLike, recordings: Sequence[Recording], steps: set[int]) -> Rollout:
    """The twin's own frames through the world's tokenizer, as if a world had generated them: the ceiling.

    Args:
        world: the world whose tokenizer is used.
        recordings: B recordings of whole steps.
        steps: which steps to show.
    """
    per_step = world.config.frames_per_step
    frames = np.stack([recording.frames for recording in recordings])
    return Rollout(
        frames={
            step: reconstructed(world, frames[:, step * per_step : (step + 1) * per_step]) for step in sorted(steps)
        },
        rewards=np.stack([recording.rewards for recording in recordings]),
        hazards=np.zeros(frames.shape[:2], np.float32),
    )


def reconstructed(
    world: WorldLike, frames: UInt8[np.ndarray, "B T H W 3"], batch: int = 16
) -> UInt8[np.ndarray, "B T H W 3"]:
    """Frames through the world's tokenizer and back: the best that the world could show.

    Args:
        world: the world whose tokenizer is used.
        frames: T must be a multiple of frames_per_latent.
        batch: rows encoded together.
    """
    tokenizer, device = world.tokenizer, getattr(world, "device", "cpu")
    decoded = []
    with torch.no_grad():
        for i in range(0, len(frames), batch):
            rows = torch.from_numpy(frames[i : i + batch]).to(device)
            decoded.append(tokenizer.decode(tokenizer.encode(rows)).cpu().numpy())
    return np.concatenate(decoded)


def _rollout_chunk(
    world: WorldLike,
    recordings: Sequence[Recording],
    actions: np.ndarray,
    decode: set[int] | None,
    progress: Progress,
) -> Rollout:
    frames, rewards, hazards = {}, [], []
    state = begin(world, recordings)
    before, per_step = _promotions(state), world.config.frames_per_step
    for step in range(actions.shape[1] // per_step):
        chosen = actions[:, step * per_step : (step + 1) * per_step]
        state, output = world.step(state, chosen, decode=decode is None or step in decode)
        if output.frames is not None:
            frames[step] = _array(output.frames)
        rewards.append(_array(output.reward_frames))
        hazards.append(_array(output.hazard))
        progress(len(recordings))
    after = _promotions(state)
    return Rollout(
        frames=frames,
        rewards=np.concatenate(rewards, axis=1).astype(np.float32),
        hazards=np.concatenate(hazards, axis=1).astype(np.float32),
        promotions=None if before is None or after is None else after - before,
    )


def _promotions(state: Any) -> np.ndarray | None:
    """Promotions of each row so far, of a state with a memory of ours."""
    if not isinstance(state, WorldState):
        return None
    return state.memory.promotions.cpu().numpy().astype(np.int64)


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if len(found) == len(parts) else None


def _whole_steps(actions: np.ndarray, per_step: int) -> np.ndarray:
    missing = -actions.shape[1] % per_step
    return np.concatenate([actions, np.repeat(actions[:, -1:], missing, axis=1)], axis=1)


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
