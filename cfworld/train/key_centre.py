"""The mean key over real clips, which centred similarity subtracts."""

import torch

from cfworld.data import ClipSampler
from cfworld.prefix import mean_keys
from cfworld.train.banks.latent_bank import ClipBatch, LatentBank
from cfworld.world import World

__all__ = ["centre_clips", "measure_centre"]

CENTRE_CLIPS, CENTRE_LATENTS = 32, 40
"""Clips over which the mean key is measured, and their length if episodes are as long."""


def centre_clips(bank: LatentBank, latents_per_chunk: int, seed: int, device: torch.device) -> ClipBatch:
    """The clips over which every stage measures the mean key: of one length, without padding.

    Args:
        bank: Real latents.
        latents_per_chunk: The length is a multiple of it.
        seed: Seeds the choice of clips.
        device: Where they go.

    Raises:
        DatasetError: If no episode holds a chunk.
    """
    longest = min(CENTRE_LATENTS, max(bank.num_latents))
    length = max(longest - longest % latents_per_chunk, latents_per_chunk)
    sampler = ClipSampler(bank.num_latents, length, seed, min_latents=length)
    return bank.clips(sampler.batch(0, CENTRE_CLIPS), length, device)


def measure_centre(world: World, clips: ClipBatch) -> None:
    """Measure the mean key over real clips, which centred similarity subtracts."""
    with torch.inference_mode():
        centre = mean_keys(world.generator, world.config.memory, clips.latents, clips.actions)
    world.generator.key_centre = centre.clone()
