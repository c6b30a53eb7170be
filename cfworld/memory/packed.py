"""Rows of a memory without their empty slots: what is worth keeping of a memory that has only begun to fill."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cfworld.memory.state import MemoryState, row_axis

__all__ = ["PackedRow", "pack", "unpack"]

_SLOT_CONTENTS = ("keys", "values", "latents", "actions")


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedRow:
    """One row of a memory.

    Attributes:
        memory: The row, except that its keys, values, latents and actions are those of its V valid slots only.
        slots: Where those stood, [V] int64.
    """

    memory: MemoryState
    slots: Tensor

    @property
    def num_bytes(self) -> int:
        """Room that its tensors take."""
        return sum(value.nbytes for value in self.memory.tensors().values()) + self.slots.nbytes


def pack(row: MemoryState) -> PackedRow:
    """Leave out the empty slots of a memory of one row. Nothing of the row is shared."""
    slots = row.valid[0].nonzero()[:, 0]
    held = {
        name: value.index_select(row_axis(name) + 1, slots) if name in _SLOT_CONTENTS else value.clone()
        for name, value in row.tensors().items()
    }
    return PackedRow(memory=MemoryState(**held), slots=slots)


def unpack(rows: Sequence[PackedRow]) -> MemoryState:
    """All rows as one memory, which shares nothing with them; empty slots hold zeros, as they did."""
    joined: dict[str, Tensor] = {}
    for name, first in rows[0].memory.tensors().items():
        values = [getattr(row.memory, name) for row in rows]
        axis = row_axis(name)
        if name not in _SLOT_CONTENTS:
            joined[name] = torch.cat(values, dim=axis)
            continue
        shape = list(first.shape)
        shape[axis : axis + 2] = len(rows), rows[0].memory.valid.shape[1]
        joined[name] = first.new_zeros(shape)
        for index, (row, value) in enumerate(zip(rows, values, strict=True)):
            joined[name].select(axis, index).index_copy_(axis, row.slots, value.squeeze(axis))
    return MemoryState(**joined)
