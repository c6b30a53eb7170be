"""Recache (LongLive): what is remembered, read anew under another prompt.

The keys and values of a slot were computed in view of the prompt of their time, and go on speaking of it after a new
one has come. Slots keep their latents, so that all of them can be read again.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Int, Int64, Num
from torch import Tensor

from cfworld.memory import MemoryConfig, MemoryState, memory_positions
from cfworld.model import Generator, apply_rope

__all__ = ["recache", "recache_switched", "switched_rows"]


def recache_switched(
    generator: Generator, config: MemoryConfig, memory: MemoryState, actions: Num[Tensor, "B f *action"]
) -> MemoryState:
    """Read the memory anew in those rows whose prompt is another than that of their last latent.

    It waits for the device, to see which rows these are.

    Args:
        generator: Whose keys the memory holds.
        config: The memory's sizes and positions.
        memory: What is remembered.
        actions: The actions of the latent to come.
    """
    rows = switched_rows(memory, actions)
    if not len(rows):
        return memory
    return memory.replace(rows, recache(generator, config, memory.select(rows), actions[rows]))


def switched_rows(memory: MemoryState, actions: Num[Tensor, "B f *action"]) -> Int64[Tensor, " R"]:
    """Which rows remember a latent, and come to another prompt than that of their last one.

    Args:
        memory: What is remembered.
        actions: The actions of the latent to come.
    """
    newest = memory.newest
    before = memory.actions[torch.arange(memory.num_rows, device=newest.device), newest]
    switched = (before != actions).flatten(1).any(dim=1) & memory.valid.any(dim=1)
    return switched.nonzero()[:, 0]


def recache(
    generator: Generator, config: MemoryConfig, memory: MemoryState, actions: Num[Tensor, "B f *action"]
) -> MemoryState:
    """The same latents in the same slots, their keys and values those of a clean pass under other actions.

    Slots are read in their order, as many at once as a chunk has latents; each sees the slots before it and those of
    its own chunk. Where nothing has been dropped yet, and the parts of the memory are whole chunks, this gives what the
    memory would hold had the actions been so from the beginning. What the memory compares chunks with (`reference`)
    stays: to the next check, the new prompt's keys may well look new.

    Args:
        generator: Whose keys the memory holds.
        config: The memory's sizes and positions.
        memory: What is remembered.
        actions: The actions of one latent of each row, which every slot is read under.
    """
    network = generator.transformer
    tokens = network.config.tokens_per_latent
    positions, _ = memory_positions(config, memory.valid, memory.source, memory.count)
    chunk = memory.source.div(config.latents_per_chunk, rounding_mode="floor")
    prompts = network.embed_prompts(generator.prompts(actions[:, None]).to(memory.keys.dtype))
    keys, values = memory.keys.clone(), memory.values.clone()
    for first in range(0, config.num_slots, config.latents_per_chunk):
        piece = slice(first, min(first + config.latents_per_chunk, config.num_slots))
        rotated = apply_rope(keys[:, :, :first], *network.rotation(positions[:, :first])).flatten(2, 3)
        seen = values[:, :, :first].flatten(2, 3)
        latents = memory.latents[:, piece].to(keys.dtype)
        output = network(
            latents,
            torch.zeros(latents.shape[:2], device=latents.device),
            prompts.for_latents(latents.shape[1]),
            positions[:, piece],
            lambda layer, _keys, _values, rotated=rotated, seen=seen: (rotated[layer], seen[layer]),
            _visible(memory.valid, chunk, piece).repeat_interleave(tokens, dim=2).repeat_interleave(tokens, dim=3),
        )
        there = memory.valid[None, :, piece, None, None, None]
        keys[:, :, piece] = torch.where(there, torch.stack(output.keys), keys[:, :, piece])
        values[:, :, piece] = torch.where(there, torch.stack(output.values), values[:, :, piece])
    held = memory.valid.reshape(*memory.valid.shape, *[1] * (memory.actions.ndim - 2))
    return replace(memory, keys=keys, values=values, actions=torch.where(held, actions[:, None], memory.actions))


def _visible(valid: Bool[Tensor, "B S"], chunk: Int[Tensor, "B S"], piece: slice) -> Bool[Tensor, "B 1 q k"]:
    """Which slots, up to the piece's last, each slot of a piece looks at: itself, and what its chunk knew of."""
    slots = torch.arange(piece.stop, device=valid.device)
    known = valid[:, None, : piece.stop] & (chunk[:, None, : piece.stop] <= chunk[:, piece, None])
    return (known | (slots == slots[piece, None]))[:, None]
