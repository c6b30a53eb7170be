"""Checkpoint files of Wan and of what was trained from it: found, read without running code, and unwrapped."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from cfworld.errors import CheckpointError
from cfworld.model.tensors import some

__all__ = ["PARTS", "WanFile", "read_settings", "read_tensor_file", "read_wan_file"]

PARTS = ("generator_ema", "generator", "model", "critic")
"""Networks that a training checkpoint may hold, the likeliest to be meant first."""

_WRAPPERS = re.compile(
    r"(?:(?<=^)|(?<=\.))(?:model|module|diffusion_model|_fsdp_wrapped_module|_checkpoint_wrapped_module|_orig_mod)\."
)
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_PREFERRED = ("diffusion_pytorch_model*.safetensors", "*.safetensors", "*.pt", "*.pth", "*.bin")


@dataclass(frozen=True, kw_only=True, slots=True)
class WanFile:
    """What a checkpoint holds of one transformer.

    Attributes:
        tensors: By the checkpoint's own names, without the prefixes of wrappers.
        settings: Its config.json, if there is one.
        origin: Where it was read.
    """

    tensors: dict[str, Tensor]
    settings: dict[str, Any]
    origin: str


def read_wan_file(path: str | Path, part: str | None = None) -> WanFile:
    """Read a transformer.

    Args:
        path: A file (safetensors, or what torch.save wrote); a folder of them with its config.json; a diffusers
            pipeline, whose `transformer` is taken.
        part: Which network of a training checkpoint: "generator", "generator_ema", "critic" or "model". None takes the
            averaged generator if there is one, then the generator, then the model.

    Raises:
        CheckpointError: If there is no such file, it cannot be read, or lacks that part.
    """
    path = Path(path)
    if (path / "transformer").is_dir():
        path = path / "transformer"
    tensors = _part(_merged(_files(path), path), part, path)
    config = path / "config.json"
    settings = read_settings(config) if path.is_dir() and config.is_file() else {}
    return WanFile(
        tensors={_unwrapped(name): value for name, value in tensors.items()}, settings=settings, origin=str(path)
    )


def read_tensor_file(file: Path) -> dict[str, Any]:
    """What a checkpoint file holds by name: tensors, or parts that hold them. No code in it is run.

    Raises:
        CheckpointError: If it cannot be read.
    """
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip each raise their own kinds
        raise CheckpointError(
            f"{file} cannot be read as tensors alone: {_what_it_is(file)}. Give a safetensors file, or one that "
            "torch.save wrote of plain tensors."
        ) from error
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{file} holds a {type(found).__name__}; expected tensors by name.")
    return dict(found)


def read_settings(file: Path) -> dict[str, Any]:
    """What a config.json says.

    Raises:
        CheckpointError: If it cannot be read, or holds something else than settings by name.
    """
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read as JSON ({error}); expected settings by name.") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file} holds a {type(settings).__name__}; expected settings by name.")
    return settings


def _what_it_is(file: Path) -> str:
    """What is known of a file that could not be read."""
    try:
        with file.open("rb") as opened:
            head = opened.read(64).lstrip()
    except OSError as error:
        return str(error)
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer that stands for the file; fetch the file itself, `git lfs pull`"
    if head.startswith(b"<"):
        return "it is a page of HTML, as a failed download leaves it"
    return "it is damaged, of another kind, or would have to run code, which is refused"


def _merged(files: list[Path], path: Path) -> dict[str, Any]:
    """What the shards of one network hold together."""
    found: dict[str, Any] = {}
    for file in files:
        held = read_tensor_file(file)
        if found.keys() & held.keys() or (
            len(files) > 1 and any(isinstance(held.get(name), Mapping) for name in PARTS)
        ):
            raise CheckpointError(
                f"{path} holds several checkpoints: {some(entry.name for entry in files)}; expected one, or shards "
                "that share no tensor. Name the file."
            )
        found |= held
    return found


def _files(path: Path) -> list[Path]:
    if path.is_file():
        if path.suffix not in _SUFFIXES:
            raise CheckpointError(f"got {path} as weights; expected one of {', '.join(_SUFFIXES)}, or a folder.")
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"there are no weights at {path}; give a checkpoint's file or folder.")
    for pattern in _PREFERRED:
        if files := sorted(path.glob(pattern)):
            return files
    raise CheckpointError(f"{path} holds no weights; expected a file such as diffusion_pytorch_model.safetensors.")


def _part(found: dict[str, Any], part: str | None, path: Path) -> dict[str, Tensor]:
    """The tensors of one network of what a file holds."""
    held = [name for name in PARTS if isinstance(found.get(name), Mapping)]
    if part is not None and part not in held:
        raise CheckpointError(
            f"got part={part!r}; {path} holds " + (f"{', '.join(held)}." if held else "one network without a name.")
        )
    if held:
        found = dict(found[part or held[0]])
    if strangers := [name for name, value in found.items() if not isinstance(value, Tensor)]:
        raise CheckpointError(
            f"{path} holds {some(map(repr, strangers))}, which are no tensors; expected a network's tensors, or one of "
            f"{', '.join(PARTS)} with them."
        )
    return found


def _unwrapped(name: str) -> str:
    return _WRAPPERS.sub("", name)
