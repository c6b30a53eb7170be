"""The state of a world: a value that can be copied, forked, cut into rows and saved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cfworld.errors import CheckpointError, DonatedStateError
from cfworld.files import write_aside
from cfworld.memory import MemoryState

__all__ = ["WorldState"]


@dataclass(frozen=True, kw_only=True)
class WorldState:
    """Everything that the next step depends on, besides the weights.

    Attributes:
        memory: The slow-fast memory.
        seeds: Seed of each row's noise, [B] int64.
        step: Steps taken by each row since its start, [B] int64.
        latents: The last chunk, [B, N, C, h, w] float32.
        ended: Rows whose episode has ended, [B] bool. Stepping them on is allowed and means nothing.
    """

    memory: MemoryState
    seeds: Tensor
    step: Tensor
    latents: Tensor
    ended: Tensor
    _given_away: list[bool] = field(default_factory=lambda: [False], repr=False, compare=False)

    @property
    def num_rows(self) -> int:
        """Rows B."""
        return self.seeds.shape[0]

    def clone(self) -> "WorldState":
        """A copy that shares nothing."""
        self.check_usable()
        return self._map(self.memory.clone(), torch.Tensor.clone)

    def select(self, rows: Sequence[int] | Tensor) -> "WorldState":
        """The given rows, in the given order; a row may occur several times."""
        self.check_usable()
        index = self._rows(rows)
        return self._map(self.memory.select(index), lambda value: value.index_select(0, index))

    def replace(self, rows: Sequence[int] | Tensor, other: "WorldState") -> "WorldState":
        """A copy in which `rows` are taken from `other`, whose row i becomes rows[i].

        Raises:
            ValueError: If `other` does not have as many rows as are named.
        """
        self.check_usable()
        other.check_usable()
        index = self._rows(rows)
        if len(index) != other.num_rows:
            raise ValueError(f"{len(index)} rows are to be replaced, but the other state has {other.num_rows}.")
        rows_of = {name: getattr(self, name).index_copy(0, index, getattr(other, name)) for name in _ROW_TENSORS}
        return _state(self.memory.replace(index, other.memory), rows_of)

    @staticmethod
    def cat(states: Sequence["WorldState"]) -> "WorldState":
        """All rows of all states, in order."""
        if not states:
            raise ValueError("there are no states to join; give at least one.")
        for state in states:
            state.check_usable()
        rows_of = {name: torch.cat([getattr(state, name) for state in states]) for name in _ROW_TENSORS}
        return _state(MemoryState.cat([state.memory for state in states]), rows_of)

    def save(self, path: str | Path) -> None:
        """Write the state to one safetensors file, whole or not at all."""
        self.check_usable()
        tensors = {f"memory.{name}": value for name, value in self.memory.tensors().items()}
        tensors |= {name: getattr(self, name) for name in _ROW_TENSORS}
        with write_aside(path) as aside:
            save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, aside)

    @staticmethod
    def load(path: str | Path, device: str | torch.device = "cpu") -> "WorldState":
        """Read a state that `save` wrote.

        Raises:
            CheckpointError: If the file is missing, damaged, or holds something else.
        """
        try:
            tensors = load_file(path, device=str(device))
            memory = {name.removeprefix("memory."): v for name, v in tensors.items() if name.startswith("memory.")}
            return _state(MemoryState(**memory), tensors)
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} does not hold a world state written by WorldState.save: {error}") from error

    def give_away(self) -> None:
        """Mark the state as donated: whoever uses it again is told so."""
        self._given_away[0] = True

    def check_usable(self) -> None:
        """Raise DonatedStateError if the state has been donated."""
        if self._given_away[0]:
            raise DonatedStateError(
                "this state was donated to World.step and its buffers may be gone; step without donate=True, "
                "or clone() the state first."
            )

    def _rows(self, rows: Sequence[int] | Tensor) -> Tensor:
        return torch.as_tensor(rows, dtype=torch.int64, device=self.seeds.device)

    def _map(self, memory: MemoryState, function: Callable[[Tensor], Tensor]) -> "WorldState":
        return _state(memory, {name: function(getattr(self, name)) for name in _ROW_TENSORS})


_ROW_TENSORS = ("seeds", "step", "latents", "ended")


def _state(memory: MemoryState, rows: Mapping[str, Tensor]) -> WorldState:
    return WorldState(
        memory=memory, seeds=rows["seeds"], step=rows["step"], latents=rows["latents"], ended=rows["ended"]
    )
