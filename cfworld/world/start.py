"""Starts: short real prefixes from which episodes begin."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cfworld.errors import ActionError, StartError
from cfworld.model import Generator
from cfworld.tokenizer import Tokenizer
from cfworld.world.config import WorldConfig

__all__ = ["EncodedStarts", "Start", "encode_start"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A real prefix.

    Attributes:
        frames: uint8 [L * frames_per_latent, H, W, 3].
        actions: One action per frame, [L * frames_per_latent] or [L * frames_per_latent, A].
    """

    frames: np.ndarray
    actions: np.ndarray

    def __post_init__(self) -> None:
        frames, actions = np.asarray(self.frames), np.asarray(self.actions)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise StartError(f"a start's frames are uint8 [T, H, W, 3]; got {frames.dtype} {list(frames.shape)}.")
        if len(actions) != len(frames):
            raise StartError(f"a start has one action per frame; got {len(actions)} for {len(frames)} frames.")
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "actions", actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedStarts:
    """The starts that a world ships, as latents.

    Attributes:
        latents: [K, L, C, h, w].
        actions: [K, L, f] or [K, L, f, A].
        seeds: Seed of the twin's episode that each was cut from, [K] int64.
    """

    latents: Tensor
    actions: Tensor
    seeds: Tensor

    def __len__(self) -> int:
        return self.latents.shape[0]

    def pick(self, index: int) -> tuple[Tensor, Tensor]:
        """Latents [L, C, h, w] and actions [L, f, ...] of one start.

        Raises:
            StartError: If there is no such start.
        """
        if not 0 <= index < len(self):
            raise StartError(f"there is no start {index}; this world ships starts 0 to {len(self) - 1}.")
        return self.latents[index], self.actions[index]


def encode_start(
    start: Start, config: WorldConfig, tokenizer: Tokenizer, generator: Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Latents [L, C, h, w] and actions [L, f, ...] of a real prefix.

    Raises:
        StartError: If frames or actions are not what the world expects.
    """
    step, (height, width) = config.frames_per_step, config.resolution
    length = len(start.frames)
    if start.frames.shape[1:3] != (height, width):
        raise StartError(f"start frames must be {height}x{width}; got {start.frames.shape[1]}x{start.frames.shape[2]}.")
    if length == 0 or length % step:
        raise StartError(f"a start must hold whole steps of {step} frames; got {length} frames. Cut it to a multiple.")
    try:
        actions = generator.prompts.check(start.actions[None], 1, length)
    except ActionError as error:
        raise StartError(f"the start's actions do not fit this world: {error}") from error
    frames = torch.from_numpy(start.frames).to(device)[None]
    latents = tokenizer.encode(frames)[0]
    return latents, actions[0].to(device).unflatten(0, (-1, config.frames_per_latent))
