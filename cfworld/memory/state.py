"""The memory as a value: keys, values and what each slot holds, with a row axis throughout."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Int64
from torch import Tensor

from cfworld.memory.config import MemoryConfig

__all__ = ["MemoryState", "NewLatents", "empty_memory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class NewLatents:
    """One chunk on its way into the memory.

    Attributes:
        keys: [L, B, N, n, H, d], before RoPE, from the clean pass.
        values: [L, B, N, n, H, d].
        latents: [B, N, C, h, w].
        actions: [B, N, f] or [B, N, f, A]; with the latents, enough to compute another network's keys.
    """

    keys: Tensor
    values: Tensor
    latents: Tensor
    actions: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MemoryState:
    """Slots in the order sink, slow, fast, each part filled from its left.

    Attributes:
        keys: [L, B, S, n, H, d], before RoPE.
        values: [L, B, S, n, H, d].
        latents: [B, S, C, h, w].
        actions: [B, S, f] or [B, S, f, A].
        source: Index of each slot's latent since the beginning of the episode, [B, S] int64; -1 when empty.
        valid: Which slots hold something, [B, S] bool.
        flagged: Which fast slots will enter slow memory when they leave, [B, S] bool.
        count: Latents committed so far, [B] int64.
        reference: Token-mean keys at the previous check, [L, B, H d] float32.
        centre: What centred similarity subtracts from mean keys, a constant of the network, [L, B, H d] float32.
        threshold: The row's tau, [B] float32.
        similarity: Similarity found by the last check, [B] float32.
        checks: Checks made, [B] int64.
        promotions: Checks that flagged their chunk, [B] int64.
    """

    keys: Tensor
    values: Tensor
    latents: Tensor
    actions: Tensor
    source: Tensor
    valid: Tensor
    flagged: Tensor
    count: Tensor
    reference: Tensor
    centre: Tensor
    threshold: Tensor
    similarity: Tensor
    checks: Tensor
    promotions: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Every field by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def clone(self) -> "MemoryState":
        """A copy that shares nothing."""
        return MemoryState(**{name: value.clone() for name, value in self.tensors().items()})

    def select(self, rows: Tensor) -> "MemoryState":
        """The given rows, in the given order."""
        return MemoryState(**{name: value.index_select(row_axis(name), rows) for name, value in self.tensors().items()})

    def replace(self, rows: Tensor, other: "MemoryState") -> "MemoryState":
        """A copy in which `rows` are taken from `other`, whose row i becomes rows[i]."""
        new = other.tensors()
        return MemoryState(
            **{name: value.index_copy(row_axis(name), rows, new[name]) for name, value in self.tensors().items()}
        )

    @staticmethod
    def cat(states: Sequence["MemoryState"]) -> "MemoryState":
        """All rows of all states."""
        return MemoryState(
            **{name: torch.cat([getattr(s, name) for s in states], dim=row_axis(name)) for name in _FIELD_NAMES}
        )

    @property
    def num_rows(self) -> int:
        """Rows B."""
        return self.count.shape[0]

    @property
    def newest(self) -> Int64[Tensor, " B"]:
        """The slot of the latent that each row remembers last; 0 where it remembers none."""
        return self.source.argmax(dim=1)


_FIELD_NAMES = tuple(field.name for field in fields(MemoryState))
_LAYERS_FIRST = frozenset({"keys", "values", "reference", "centre"})


def row_axis(name: str) -> int:
    """Which axis of a field counts the rows: per-layer tensors have the layer first."""
    return 1 if name in _LAYERS_FIRST else 0


def empty_memory(config: MemoryConfig, like: NewLatents, centre: Tensor | None = None) -> MemoryState:
    """A memory without anything in it.

    Args:
        config: Its sizes.
        like: It is shaped, typed and placed like the chunk that it will receive.
        centre: Mean key of every layer over typical data, [L, H d]; zero if there is none.
    """
    layers, rows, _, tokens, heads, width = like.keys.shape
    slots = config.num_slots
    device = like.keys.device
    counter = torch.zeros(rows, dtype=torch.int64, device=device)
    bits = torch.zeros(rows, slots, dtype=torch.bool, device=device)
    key_mean = torch.zeros(layers, rows, heads * width, device=device)
    return MemoryState(
        keys=like.keys.new_zeros(layers, rows, slots, tokens, heads, width),
        values=like.values.new_zeros(layers, rows, slots, tokens, heads, width),
        latents=like.latents.new_zeros(rows, slots, *like.latents.shape[2:]),
        actions=like.actions.new_zeros(rows, slots, *like.actions.shape[2:]),
        source=torch.full((rows, slots), -1, dtype=torch.int64, device=device),
        valid=bits,
        flagged=bits.clone(),
        count=counter,
        reference=key_mean,
        centre=key_mean.clone() if centre is None else centre.float()[:, None].expand_as(key_mean).clone(),
        threshold=torch.full((rows,), config.threshold, device=device),
        similarity=torch.ones(rows, device=device),
        checks=counter.clone(),
        promotions=counter.clone(),
    )
