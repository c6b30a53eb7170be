"""Openings: episodes that begin from nothing, their first chunk generated as a text-to-video model does."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfworld.diffusion import counter_noise
from cfworld.errors import ActionError, StartError
from cfworld.memory import MemoryState
from cfworld.model import Generator
from cfworld.rollout import blank_memory, clean_pass, context_from_memory, denoise
from cfworld.world.config import WorldConfig
from cfworld.world.seeds import as_int64
from cfworld.world.start import content_digest

__all__ = ["Opening", "check_opening", "opened"]

BEFORE_FIRST_STEP = -1
"""The step by which the noise of an opening is drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """The beginning of an episode out of nothing.

    Attributes:
        action: What the first chunk is generated under: an action of the world, for all of it or one per frame.
    """

    action: Any

    @property
    def name(self) -> str:
        """What to write into a log: of a text an address, which brings the opening back; of other actions a digest."""
        if isinstance(self.action, str):
            return f"prompt:{self.action}"
        parts = self.action if isinstance(self.action, Mapping) else {"": self.action}
        return f"opening:sha256:{content_digest([np.asarray(part) for _, part in sorted(parts.items())])}"


def check_opening(opening: Opening, config: WorldConfig, generator: Generator) -> Tensor:
    """The checked actions of an opening, [1, F, ...].

    Raises:
        StartError: If its action is none of the world's.
    """
    try:
        return generator.prompts.check(opening.action, None, config.frames_per_step)
    except ActionError as error:
        raise StartError(f"the action of an opening does not fit this world: {error}") from error


def opened(
    opening: Opening, seed: int, config: WorldConfig, generator: Generator, device: torch.device
) -> tuple[MemoryState, Tensor]:
    """Generate the first chunk of one row.

    Returns:
        The memory after it, and its latents [1, N, C, h, w].

    Raises:
        StartError: If the opening's action is none of the world's.
    """
    actions = check_opening(opening, config, generator).to(device)
    per_latent = actions.unflatten(1, (config.latents_per_chunk, config.frames_per_latent))
    shape = (config.latents_per_chunk, config.transformer.in_channels, *config.transformer.latent_size)
    memory = blank_memory(generator, config.memory, torch.zeros(1, *shape, device=device), per_latent)
    context = context_from_memory(generator, config.memory, memory)
    words = as_int64([seed], device)
    step = torch.full_like(words, BEFORE_FIRST_STEP)
    latents = denoise(
        generator, config.sampler, context, per_latent, lambda index: counter_noise(words, step, index, shape)
    )
    return clean_pass(generator, config.memory, memory, context, latents, per_latent).memory, latents
