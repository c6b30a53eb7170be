"""Chunks whose content is their number, so that a test can read off where each latent went."""

import torch

from cfworld.memory import MemoryConfig, MemoryState, NewLatents, commit, empty_memory


def numbered_chunk(first: int, config: MemoryConfig, rows: int = 1) -> NewLatents:
    """Latents first, first + 1, ...: one layer, one token, one head; keys point in a direction of their own."""
    numbers = torch.arange(first, first + config.latents_per_chunk, dtype=torch.float32)
    angles = torch.stack([numbers.cos(), numbers.sin()], dim=-1)
    keys = angles[None, None, :, None, None].repeat(1, rows, 1, 1, 1, 1)
    return NewLatents(
        keys=keys,
        values=keys * 2,
        latents=numbers[None, :, None, None, None].repeat(rows, 1, 1, 1, 1),
        actions=numbers.long()[None, :, None].repeat(rows, 1, 1),
    )


def filled(config: MemoryConfig, num_chunks: int) -> MemoryState:
    """A memory after so many numbered chunks."""
    memory = empty_memory(config, numbered_chunk(0, config))
    for chunk in range(num_chunks):
        memory = commit(memory, config, numbered_chunk(chunk * config.latents_per_chunk, config))
    return memory
