"""The state of a world: a value that can be copied, forked, cut into rows and saved."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cfworld.errors import CheckpointError, DonatedStateError, StateError
from cfworld.files import write_aside
from cfworld.memory import MemoryState
from cfworld.world.device import usable_device
from cfworld.world.seeds import as_int64, checked_seeds

__all__ = ["WorldState"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WorldState:
    """Everything that the next step depends on, besides the weights.

    Attributes:
        memory: The slow-fast memory.
        seeds: Seed of each row's noise, [B] int64.
        step: Steps taken by each row since its start, [B] int64.
        latents: The last chunk, [B, N, C, h, w] float32.
        ended: Rows whose episode has ended, [B] bool. Stepping them on is allowed and means nothing.
        world: Fingerprint of the world that the state belongs to.
        decoder: What a decoder that streams has to know of the latents so far, and, as "frames", what it showed last,
            uint8 [B, F, H, W, 3]; tensors with the row axis first. Empty where latents are decoded one by one.
    """

    world: str
    memory: MemoryState
    seeds: Tensor
    step: Tensor
    latents: Tensor
    ended: Tensor
    decoder: Mapping[str, Tensor] = field(default_factory=dict)
    _given_away: list[bool] = field(default_factory=lambda: [False], repr=False, compare=False)

    @property
    def stream(self) -> dict[str, Tensor]:
        """What `Tokenizer.decode_next` needs for the latents to come: `decoder` without the frames that were shown."""
        return {name: value for name, value in self.decoder.items() if name != "frames"}

    @property
    def num_rows(self) -> int:
        """Rows B."""
        return self.seeds.shape[0]

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        return self.seeds.device

    def clone(self) -> "WorldState":
        """A copy that shares nothing."""
        self.check_usable()
        return self._map(self.memory.clone(), torch.Tensor.clone)

    def select(self, rows: Any) -> "WorldState":
        """The given rows, in the given order; a row may occur several times.

        Args:
            rows: Indices, or a mask with one bool per row.

        Raises:
            StateError: If there are no such rows.
        """
        self.check_usable()
        index = self._rows(rows)
        return self._map(self.memory.select(index), lambda value: value.index_select(0, index))

    def reseeded(self, seeds: Sequence[int]) -> "WorldState":
        """The same rows with other noise from here on.

        Args:
            seeds: One integer of 64 bits per row.

        Raises:
            StateError: If there are not as many as rows.
            StartError: If they are no integers of 64 bits.
        """
        self.check_usable()
        rows = checked_seeds(seeds)
        if len(rows) != self.num_rows:
            raise StateError(f"got {len(rows)} seeds for {self.num_rows} rows; give one per row.")
        return replace(self, seeds=as_int64(rows, self.seeds.device), _given_away=[False])

    def replace(self, rows: Any, other: "WorldState") -> "WorldState":
        """A copy in which `rows` are taken from `other`, whose row i becomes rows[i].

        Args:
            rows: Indices, each once, or a mask with one bool per row.
            other: A state of the same world with as many rows as are named.

        Raises:
            StateError: If there are no such rows, or `other` does not fit.
        """
        self.check_usable()
        _checked(other).check_usable()
        index = self._rows(rows)
        if len(index) != other.num_rows or len(index.unique()) != len(index):
            raise StateError(
                f"rows {index.tolist()} are to be replaced from a state of {other.num_rows} rows; name as many "
                "different rows as the other state has."
            )
        if other.world != self.world:
            raise StateError(f"a state of {self.world} cannot take rows of {other.world}; give one of the same world.")
        given = other.row_tensors()
        rows_of = {name: value.index_copy(0, index, given[name]) for name, value in self.row_tensors().items()}
        return _state(self.world, self.memory.replace(index, other.memory), rows_of)

    @staticmethod
    def cat(states: Sequence["WorldState"]) -> "WorldState":
        """All rows of all states, in order.

        Raises:
            StateError: If there are none, or they belong to different worlds.
        """
        worlds = sorted({_checked(state).world for state in states})
        if len(worlds) != 1:
            raise StateError(f"states of one world can be joined; got those of {worlds or 'none'}.")
        for state in states:
            state.check_usable()
        parts = [state.row_tensors() for state in states]
        rows_of = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return _state(worlds[0], MemoryState.cat([state.memory for state in states]), rows_of)

    def save(self, path: str | Path) -> None:
        """Write the state to one safetensors file, whole or not at all."""
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in self.tensors().items()}
        with write_aside(path) as aside:
            save_file(tensors, aside, metadata={"world": self.world})

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, those of the memory as `memory.*`, the decoder's as `decoder.*`.

        `from_tensors` undoes it.

        Raises:
            DonatedStateError: If the state has been donated.
        """
        self.check_usable()
        memory = {f"memory.{name}": value for name, value in self.memory.tensors().items()}
        return memory | self.row_tensors()

    def row_tensors(self) -> dict[str, Tensor]:
        """Every tensor besides the memory's, by name: all have the row axis first."""
        decoder = {f"{_DECODER}{name}": value for name, value in self.decoder.items()}
        return decoder | {name: getattr(self, name) for name in _ROW_TENSORS}

    @staticmethod
    def from_tensors(world: str, tensors: Mapping[str, Tensor]) -> "WorldState":
        """A state of the world of this fingerprint from its tensors.

        Raises:
            KeyError: If one is missing.
            TypeError: If the memory's do not make a memory.
        """
        memory = {name.removeprefix("memory."): v for name, v in tensors.items() if name.startswith("memory.")}
        return _state(world, MemoryState(**memory), tensors)

    @staticmethod
    def load(path: str | Path, device: str | torch.device = "cpu") -> "WorldState":
        """Read a state that `save` wrote.

        Raises:
            ConfigError: If the device cannot compute.
            CheckpointError: If the file is missing, damaged, or holds something else.
        """
        place = usable_device(device)
        try:
            with safe_open(path, framework="pt", device=str(place)) as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
                world = (file.metadata() or {})["world"]
            return WorldState.from_tensors(world, tensors)
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

    def check_fits(self, world: str, device: torch.device) -> None:
        """Make sure that a world can go on from here.

        Args:
            world: The world's fingerprint.
            device: Where it computes.

        Raises:
            DonatedStateError: If the state has been donated.
            StateError: If it belongs to another world, or lies on another device.
        """
        self.check_usable()
        if not self.num_rows:
            raise StateError("got a state without rows; expected at least one: a world has nothing to step there.")
        if self.world != world:
            raise StateError(
                f"got a state of {self.world}; expected one of this world, {world}: its memory means nothing to other "
                "weights, another variant or another memory. Load the world that it belongs to, or begin anew with "
                "frames."
            )
        if self.device != device:
            raise StateError(
                f"got a state on {self.device}; this world is on {device}: save it, and load it with "
                "WorldState.load(path, device=...)."
            )

    def _rows(self, rows: Any) -> Tensor:
        try:
            given = torch.as_tensor(rows, device=self.seeds.device)
        except (TypeError, ValueError, RuntimeError) as error:
            raise StateError(f"rows are indices, or a mask of {self.num_rows} bools; got {rows!r}.") from error
        if given.dtype == torch.bool and given.shape == self.seeds.shape:
            return given.nonzero()[:, 0]
        if given.ndim != 1 or given.dtype == torch.bool or given.is_floating_point() or given.is_complex():
            raise StateError(
                f"rows are indices, or a mask of {self.num_rows} bools; got {given.dtype} of shape {list(given.shape)}."
            )
        if given.numel() and not 0 <= int(given.min()) <= int(given.max()) < self.num_rows:
            raise StateError(f"this state has rows 0 to {self.num_rows - 1}; got {given.tolist()}.")
        return given.long()

    def _map(self, memory: MemoryState, function: Callable[[Tensor], Tensor]) -> "WorldState":
        return _state(self.world, memory, {name: function(value) for name, value in self.row_tensors().items()})


def _checked(state: Any) -> WorldState:
    if not isinstance(state, WorldState):
        raise StateError(f"got a {type(state).__name__}; expected a WorldState.")
    return state


_ROW_TENSORS = ("seeds", "step", "latents", "ended")
_DECODER = "decoder."


def _state(world: str, memory: MemoryState, rows: Mapping[str, Tensor]) -> WorldState:
    return WorldState(
        world=world,
        memory=memory,
        seeds=rows["seeds"],
        step=rows["step"],
        latents=rows["latents"],
        ended=rows["ended"],
        decoder={name.removeprefix(_DECODER): rows[name] for name in sorted(rows) if name.startswith(_DECODER)},
    )
