"""A world on disk: config.json, safetensors shards with checksums, starts.safetensors."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cfworld.errors import CheckpointError
from cfworld.files import write_aside, write_json

__all__ = [
    "CONFIG_FILE",
    "SCHEMA_VERSION",
    "read_manifest",
    "read_tensors",
    "write_manifest",
    "write_tensors",
]

CONFIG_FILE = "config.json"
SCHEMA_VERSION = 1
MAX_SHARD_BYTES = 16_000_000


def write_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write tensors as `name`-XXXXX-of-XXXXX.safetensors of at most 16 MB each; return the files' SHA-256."""
    shards = list(_shards(tensors))
    checksums = {}
    for index, shard in enumerate(shards):
        file = folder / f"{name}-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        with write_aside(file) as aside:
            save_file(shard, aside)
        checksums[file.name] = _sha256(file)
    return checksums


def read_tensors(folder: Path, checksums: Mapping[str, str]) -> dict[str, Tensor]:
    """Read shards back and check each one's SHA-256.

    Raises:
        CheckpointError: If a shard is missing, damaged or not the one that config.json names.
    """
    tensors: dict[str, Tensor] = {}
    for name, checksum in checksums.items():
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"{folder} lacks {name}, which its {CONFIG_FILE} names; copy the folder again.")
        if (found := _sha256(file)) != checksum:
            raise CheckpointError(
                f"{file} has SHA-256 {found[:12]}..., expected {checksum[:12]}...: it is damaged or belongs to another "
                "checkpoint; copy the folder again."
            )
        try:
            tensors |= load_file(file)
        except SafetensorError as error:
            raise CheckpointError(f"{file} is no safetensors file: {error}") from error
    return tensors


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write config.json, last of all files, so that a folder without it is known to be unfinished."""
    write_json(folder / CONFIG_FILE, {"schema_version": SCHEMA_VERSION, **manifest})


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read config.json.

    Raises:
        CheckpointError: If it is missing, unreadable or of another schema.
    """
    file = folder / CONFIG_FILE
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} holds no {CONFIG_FILE}; it is not a world, or its writing was cut off."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{file} has schema version {version!r}; this cfworld reads {SCHEMA_VERSION}. Update cfworld, or save the "
            "world again."
        )
    if missing := {"world", "variants", "tokenizer", "starts"} - set(manifest):
        raise CheckpointError(f"{file} lacks {sorted(missing)}; copy the folder again.")
    return manifest


def _shards(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for name, tensor in tensors.items():
        tensor = tensor.detach().to("cpu", memory_format=torch.contiguous_format).contiguous()
        num_bytes = tensor.numel() * tensor.element_size()
        if shard and size + num_bytes > MAX_SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[name] = tensor.clone()
        size += num_bytes
    yield shard


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
