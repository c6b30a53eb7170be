"""Bounded temporal positions (Eq. 8): one function for teacher, student and rollout."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cfworld.memory.config import MemoryConfig, Positions

__all__ = ["absolute_positions", "bounded_positions", "memory_positions"]


def bounded_positions(valid: Bool[Tensor, "B S"], num_current: int) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B N"]]:
    """Positions by rank among the valid slots, in the order sink, slow, fast; the current chunk comes last.

    While nothing has been dropped the rank is the absolute index; afterwards it stays in
    [0, num_sink + num_slow + num_fast - 1] for ever where `num_current` is one chunk; scores that read R chunks at once
    go beyond it by R - 1 chunks. An empty slot gets the position of the valid one before it, or 0, and is masked
    elsewhere.
    """
    ranks = valid.long().cumsum(dim=1)
    current = ranks[:, -1:] + torch.arange(num_current, device=valid.device)
    return (ranks - 1).clamp(min=0), current


def absolute_positions(
    source: Int[Tensor, "B S"], count: Int[Tensor, " B"], num_current: int
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B N"]]:
    """Positions by index since the beginning of the episode: unbounded, for the ablation."""
    return source.clamp(min=0), count[:, None] + torch.arange(num_current, device=source.device)


def memory_positions(
    config: MemoryConfig,
    valid: Bool[Tensor, "B S"],
    source: Int[Tensor, "B S"],
    count: Int[Tensor, " B"],
    num_current: int | None = None,
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B N"]]:
    """Slot and current positions under the configured rule, of one chunk unless `num_current` latents are asked for."""
    num_current = num_current or config.latents_per_chunk
    if config.positions is Positions.BOUNDED:
        return bounded_positions(valid, num_current)
    return absolute_positions(source, count, num_current)
