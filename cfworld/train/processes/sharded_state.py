"""The state of a run that several processes wrote together, read by however many.

Every process writes its parts of what is sharded into `shards/`, with PyTorch's distributed checkpoints in the
safetensors format; the leader writes everything else into `training.pt`. There, a sharded tensor is stood for by its
name, shape, dtype and the axis on which it was cut. Whoever reads gets the parts that it keeps: other ones than were
written, or the whole.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, Shard

from cfworld.train.processes.team import Team

__all__ = ["SHARDS", "read_shards", "write_shards"]

SHARDS = "shards"
MARK = "sharded"
"""Key by which what stands for a sharded tensor is known; it holds the tensor's name."""


def write_shards(folder: Path, state: Mapping[str, Any], team: Team) -> None:
    """Write a state, each process its part.

    Args:
        folder: An empty folder, the same for all processes.
        state: Nested dicts and lists of tensors, each sharded or the same in every process, numbers and strings.
        team: The processes.
    """
    tensors: dict[str, Any] = {}

    def stand_for(value: Any, name: str) -> Any:
        if not isinstance(value, DTensor):
            return value
        (placement,) = value.placements
        assert isinstance(placement, Shard)
        tensors[name] = value.detach()
        dtype = str(value.dtype).removeprefix("torch.")
        return {MARK: name, "shape": list(value.shape), "dtype": dtype, "axis": placement.dim}

    rest = _mapped(state, stand_for)
    if team.leads:
        torch.save(rest, folder / "training.pt")
        (folder / SHARDS).mkdir()
    team.wait()
    if tensors:
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder / SHARDS), save_distributed=True))
    team.wait()


def read_shards(folder: Path, team: Team) -> dict[str, Any]:
    """Read the state that several processes wrote: what was sharded is so again, or whole for one process alone.

    Args:
        folder: The folder that `write_shards` filled.
        team: The processes that read it.
    """
    tensors: dict[str, Any] = {}

    def make_room(value: Any, name: str) -> Any:
        if not isinstance(value, dict) or MARK not in value:
            return value
        shape, dtype = value["shape"], getattr(torch, value["dtype"])
        tensors[name] = team.room(shape, dtype, value["axis"])
        return tensors[name]

    rest = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
    state = _mapped(rest, make_room)
    if tensors:
        reader = HuggingFaceStorageReader(str(folder / SHARDS))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            load(tensors, storage_reader=reader, no_dist=team.size == 1)
    return state


def _mapped(value: Any, change: Callable[[Any, str], Any], name: str = "") -> Any:
    """A nested value in which everything is what `change` makes of it and its name, from the outside inwards."""
    changed = change(value, name)
    if changed is not value or isinstance(value, Tensor):
        return changed
    inside = f"{name}." if name else ""
    if isinstance(value, Mapping):
        return {key: _mapped(part, change, f"{inside}{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, change, f"{inside}{place}") for place, part in enumerate(value))
    return value
