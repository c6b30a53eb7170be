"""Start memories: what an episode begins with, made once for every start and copied at every reset.

A prefix is read into the memory the same way whatever the seed, so that only the first reset to a start pays for it.
Its bits do not depend on what is read beside it, so that an episode is the same to the last bit whether its start was
remembered or not, and whatever other rows began with it.
"""

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from cfworld.memory.packed import PackedRow

__all__ = ["StartMemories", "StartMemory"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StartMemory:
    """What an episode from one start begins with. Nobody writes into its tensors; rows are copied out of it.

    Attributes:
        memory: The memory after the prefix.
        latents: The prefix's last chunk, [1, N, C, h, w] float32.
        frames: The same as the tokenizer shows it, uint8 [1, F, H, W, 3]; None until somebody has looked.
        decoder: What a decoder that streams carries on; see `WorldState`.
    """

    memory: PackedRow
    latents: Tensor
    frames: Tensor | None = None
    decoder: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        """Room that its tensors take."""
        decoder = sum(value.nbytes for name, value in self.decoder.items() if name != "frames")
        return (
            self.memory.num_bytes + self.latents.nbytes + decoder + (0 if self.frames is None else self.frames.nbytes)
        )


class StartMemories:
    """The start memories that were used last, as many as fit.

    Copies of a world for another process or another environment begin with an empty one.

    Attributes:
        max_bytes: Room for them, on the world's device; 0 remembers none. A start of the shipped worlds takes about
            0.4 MB. It may be changed at any time.
    """

    def __init__(self, max_bytes: int = 256 * 2**20) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Hashable, StartMemory] = OrderedDict()
        self._num_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __getstate__(self) -> dict[str, Any]:
        return {"_max_bytes": self._max_bytes, "_entries": OrderedDict(), "_num_bytes": 0}

    @property
    def max_bytes(self) -> int:
        """Room for them."""
        return self._max_bytes

    @max_bytes.setter
    def max_bytes(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._trim()

    @property
    def num_bytes(self) -> int:
        """Room that they take."""
        return self._num_bytes

    def get(self, key: Hashable) -> StartMemory | None:
        """What is remembered under a key; it becomes the last used."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: Hashable, entry: StartMemory) -> None:
        """Remember an entry, or another one in its place, and forget what was not used for longest."""
        if (before := self._entries.pop(key, None)) is not None:
            self._num_bytes -= before.num_bytes
        self._entries[key] = entry
        self._num_bytes += entry.num_bytes
        self._trim()

    def _trim(self) -> None:
        while self._num_bytes > self._max_bytes:
            self._num_bytes -= self._entries.popitem(last=False)[1].num_bytes

    def clear(self) -> None:
        """Forget all: needed after weights were changed in place."""
        self._entries.clear()
        self._num_bytes = 0
