"""What those who act are shown of a step, and what an agent makes an observation of."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from cfworld.envs.latents import encoded, flat_latents
from cfworld.envs.spaces import world_observation_space
from cfworld.world import World, WorldState

__all__ = ["Eyes", "Player", "Seen"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """The last step of the episodes that run, one row each."""

    frames: UInt8[np.ndarray, "B F H W 3"] | None = None
    """All frames of the step; None in a world where nobody looks at them."""
    latents: Float[Tensor, "B N C h w"] | None = None
    """What a world generated; None in a simulator, which has none."""
    state: WorldState | None = None
    """Where a world is; None in a simulator."""


@runtime_checkable
class Player(Protocol):
    """Acts in episodes side by side."""

    @property
    def looks(self) -> bool:
        """Whether it looks at frames in a generated world too."""
        ...

    def begin(self, seeds: Sequence[int]) -> None:
        """Begin an episode per seed. How it acts there follows from the seed and what it sees."""
        ...

    def act(self, seen: Seen) -> np.ndarray:
        """Actions of the running episodes, one each [B, ...], or one for each frame [B, F, ...]."""
        ...

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these of the running episodes, indices in rising order; the others have ended."""
        ...


class Eyes:
    """Makes observations of what is shown, as an agent saw them in training.

    Args:
        obs: "frame", "frames" or "latent".
        stack: steps side by side on the last axis, zeros before the first.
        blind: zeros only.
        world: whose tokenizer makes latents of a simulator's frames.
        num_own: how many actions there are, if it sees which of them it took last; else 0.
    """

    def __init__(self, obs: str, stack: int, blind: bool, world: World, num_own: int = 0):
        self.obs = obs
        self.stack = stack
        self.blind = blind
        self._world = world
        self._past: np.ndarray | None = None
        self._one_hot = np.eye(num_own, dtype=np.float32)
        self._acted: np.ndarray | None = None

    def begin(self) -> None:
        """Forget what was seen and done."""
        self._past = self._acted = None

    def acted(self, actions: np.ndarray) -> None:
        """Take note of the actions, one per row."""
        if len(self._one_hot) and not self.blind:
            self._acted = self._one_hot[actions]

    def keep(self, rows: np.ndarray) -> None:
        """Remember these rows alone."""
        if self._past is not None:
            self._past = self._past[rows]
        if self._acted is not None:
            self._acted = self._acted[rows]

    def look(self, seen: Seen) -> np.ndarray:
        """The observation of every row: float32 [B, n] of latents, or uint8 [B, H, W, C]."""
        now = self._nothing(seen) if self.blind else self._now(seen)
        if self._past is None:
            self._past = np.zeros((*now.shape[:-1], now.shape[-1] * self.stack), now.dtype)
        self._past = np.concatenate([self._past[..., now.shape[-1] :], now], axis=-1)
        if not len(self._one_hot):
            return self._past
        acted = np.zeros((len(now), len(self._one_hot)), np.float32) if self._acted is None else self._acted
        return np.concatenate([self._past, acted], axis=-1)

    def _nothing(self, seen: Seen) -> np.ndarray:
        space = world_observation_space(self.obs, self._world.config)
        seen_rows = seen.latents if seen.frames is None else seen.frames
        assert seen_rows is not None
        return np.zeros((len(seen_rows), *space.shape), space.dtype)

    def _now(self, seen: Seen) -> np.ndarray:
        if self.obs == "latent" and seen.latents is not None:
            return flat_latents(seen.latents).cpu().numpy()
        assert seen.frames is not None
        if self.obs == "latent":
            return encoded(self._world, seen.frames)
        if self.obs == "frame":
            return seen.frames[:, -1]
        return np.concatenate(list(seen.frames.swapaxes(0, 1)), axis=-1)
