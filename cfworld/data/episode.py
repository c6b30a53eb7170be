"""Episodes as they were recorded, and the blocks of frames and actions that become latents."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from cfworld.errors import DatasetError

__all__ = ["Blocks", "Episode", "to_blocks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Episode:
    """One recorded episode of T ticks.

    Attributes:
        frames: uint8 `[T+1, H, W, 3]`; `frames[0]` is the reset frame, `frames[t+1]` what tick t led to. A
            terminal frame that the simulator blanks is replaced by the last valid one.
        actions: int64 `[T]` or `[T, K]`, or float32 `[T, A]`, as `cfworld.data.action_space` lays them out;
            `actions[t]` made `frames[t+1]`.
        rewards: float32 `[T]`.
        terminated: Whether the last tick was a real end.
        truncated: Whether the episode was cut off by a limit.
        seed: The seed of the reset; -1 when it is not known.
        source: The id of the environment the episode was recorded in.
        policy: The name of the policy that acted.
        variables: What the simulator told about itself, each float32 `[T+1]`.
        options: The options of the reset.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    truncated: bool
    seed: int
    source: str
    policy: str
    variables: Mapping[str, np.ndarray] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_frames(self.frames)
        ticks = len(self.frames) - 1
        _check_actions(self.actions, ticks)
        if self.rewards.shape != (ticks,) or self.rewards.dtype != np.float32:
            raise DatasetError(
                f"rewards are {self.rewards.dtype} {list(self.rewards.shape)}; expected float32 [{ticks}], "
                "one for every action"
            )
        for name, values in (("action", self.actions), ("reward", self.rewards)):
            finite = np.isfinite(values).reshape(ticks, -1).all(axis=1)
            if not finite.all():
                tick = int(finite.argmin())
                raise DatasetError(f"the {name} of tick {tick} is {values[tick].tolist()}; expected finite numbers")
        for name, values in self.variables.items():
            if values.shape != (ticks + 1,) or values.dtype != np.float32:
                raise DatasetError(
                    f"variable {name!r} is {values.dtype} {list(values.shape)}; expected float32 "
                    f"[{ticks + 1}], one for every frame"
                )

    def __len__(self) -> int:
        """The number of ticks T."""
        return len(self.actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """An episode cut into N blocks of f frames, one block for each latent. The reset frame belongs to none.

    Attributes:
        frames: uint8 `[N, f, H, W, 3]`; after the end the last valid frame is repeated.
        actions: int64 `[N, f]` or `[N, f, K]`, or float32 `[N, f, A]`, what made each frame; after the end the last
            one.
        rewards: float32 `[N, f]`; 0 after the end.
        ends: float32 `[N, f]`; 1 at the frame that ended the episode and nowhere else.
        valid: bool `[N, f]`; False after the end.
    """

    frames: UInt8[np.ndarray, "N f H W 3"]
    actions: Shaped[np.ndarray, "N f ..."]
    rewards: Float32[np.ndarray, "N f"]
    ends: Float32[np.ndarray, "N f"]
    valid: Bool[np.ndarray, "N f"]

    def __len__(self) -> int:
        """The number of blocks N."""
        return len(self.frames)


def to_blocks(episode: Episode, frames_per_latent: int) -> Blocks:
    """Cuts an episode into the blocks of its latents.

    Block i holds the frames after ticks `f*i .. f*i + f-1` and the actions that made them. An episode that
    really ended keeps its last, incomplete block, padded with its last valid frame and action; any other
    episode drops it.

    Args:
        episode: The episode, T ticks.
        frames_per_latent: f, the number of frames in a latent.

    Returns:
        `ceil(T / f)` blocks when the episode terminated, `floor(T / f)` otherwise.
    """
    if frames_per_latent < 1:
        raise ValueError(f"frames_per_latent is {frames_per_latent}; expected at least 1")
    ticks = len(episode)
    count = -(-ticks // frames_per_latent) if episode.terminated else ticks // frames_per_latent
    position = np.arange(count * frames_per_latent)
    valid = position < ticks
    source = np.minimum(position, ticks - 1)
    ends = (position == ticks - 1) & episode.terminated

    def cut(values: np.ndarray) -> np.ndarray:
        return values.reshape(count, frames_per_latent, *values.shape[1:])

    return Blocks(
        frames=cut(episode.frames[1:][source]),
        actions=cut(episode.actions[source]),
        rewards=cut(np.where(valid, episode.rewards[source], np.float32(0))),
        ends=cut(ends.astype(np.float32)),
        valid=cut(valid),
    )


def _check_frames(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise DatasetError(f"frames are {frames.dtype} {list(frames.shape)}; expected uint8 [T+1, H, W, 3]")
    if len(frames) < 2:
        raise DatasetError(f"an episode holds {len(frames)} frames; expected the reset frame and at least one more")


def _check_actions(actions: np.ndarray, ticks: int) -> None:
    discrete = actions.ndim in (1, 2) and actions.dtype == np.int64
    continuous = actions.ndim == 2 and actions.dtype == np.float32
    if not (discrete or continuous) or len(actions) != ticks:
        raise DatasetError(
            f"actions are {actions.dtype} {list(actions.shape)}; expected int64 [{ticks}] or [{ticks}, K], or "
            f"float32 [{ticks}, A], one less than there are frames"
        )
