"""Environment states on disk: one safetensors file."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType]
from torch import Tensor

from cfworld.envs.env_state import EnvState
from cfworld.errors import CheckpointError
from cfworld.files import write_aside
from cfworld.world import WorldState
from cfworld.world.device import usable_device

__all__ = ["load_state", "save_state"]

_COUNTERS = ("steps", "horizon", "episodes", "ended")


def save_state(state: EnvState, path: Path) -> None:
    """Write a state; see `EnvState.save`.

    The world's tensors are named `world.*`; seeds and the names of starts stand in the file's metadata.
    """
    tensors = {f"world.{name}": value for name, value in state.world.tensors().items()}
    tensors |= {name: torch.as_tensor(getattr(state, name)) for name in _COUNTERS}
    tensors["end_frame"] = state.end_frame
    if state.frames is not None:
        tensors["frames"] = state.frames
    words = {"world": state.world.world, "seeds": json.dumps(state.seeds), "starts": json.dumps(state.starts)}
    with write_aside(path) as aside:
        save_file({name: value.cpu().clone().contiguous() for name, value in tensors.items()}, aside, metadata=words)


def load_state(path: Path, device: str | torch.device) -> EnvState:
    """Read a state; see `EnvState.load`."""
    place = usable_device(device)
    try:
        tensors, words = _read(path)
        counters: dict[str, Any] = {name: tensors[name].numpy() for name in _COUNTERS}
        world = {name.removeprefix("world."): v.to(place) for name, v in tensors.items() if name.startswith("world.")}
        frames = tensors.get("frames")
        return EnvState(
            world=WorldState.from_tensors(words["world"], world),
            seeds=tuple(json.loads(words["seeds"])),
            starts=tuple(json.loads(words["starts"])),
            end_frame=tensors["end_frame"].to(place),
            frames=None if frames is None else frames.to(place),
            **counters,
        )
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} does not hold a state written by EnvState.save: {error}") from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    opened: Any = safe_open(path, framework="pt", device="cpu")
    with opened as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
