"""A world on disk: config.json, and safetensors shards with checksums, those of its starts among them."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cfworld.errors import CheckpointError
from cfworld.files import write_aside, write_json

__all__ = [
    "CONFIG_FILE",
    "SCHEMA_VERSION",
    "TEXT_ENCODER",
    "read_manifest",
    "read_tensors",
    "remove_unnamed",
    "write_manifest",
    "write_tensors",
]

CONFIG_FILE = "config.json"
SCHEMA_VERSION = 1
TEXT_ENCODER = "text_encoder"
"""The encoder of texts in config.json, and its folder."""
MAX_SHARD_BYTES = 16_000_000
PIECE = "//piece"
"""What stands between a tensor's name and the number of one of its pieces."""
SHARD = re.compile(r"[^/\\]+-\d{5}-of-\d{5}(-[0-9a-f]{12})?\.safetensors")
"""A shard's name; those of early worlds lack the digits of their content."""


def write_tensors(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Write tensors as shards of at most 16 MB each; return the files' SHA-256.

    A larger tensor is cut along its first axis. A shard is called `name`-XXXXX-of-XXXXX-<first digits of its
    SHA-256>.safetensors, so that no shard takes the place of one with another content.
    """
    shards = list(_shards(dict(_cut(tensors))))
    checksums = {}
    for index, shard in enumerate(shards):
        content = save(shard)
        checksum = hashlib.sha256(content).hexdigest()
        file = folder / f"{name}-{index + 1:05d}-of-{len(shards):05d}-{checksum[:12]}.safetensors"
        with write_aside(file) as aside:
            aside.write_bytes(content)
        checksums[file.name] = checksum
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
        content = file.read_bytes()
        if (found := hashlib.sha256(content).hexdigest()) != checksum:
            raise CheckpointError(
                f"{file} has SHA-256 {found[:12]}..., expected {checksum[:12]}...: it is damaged or belongs to another "
                "checkpoint; copy the folder again."
            )
        try:
            tensors |= load(content)
        except SafetensorError as error:
            raise CheckpointError(f"{file} is no safetensors file: {error}") from error
    return _joined(tensors)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write config.json, last of all files, so that a folder without it is known to be unfinished."""
    write_json(folder / CONFIG_FILE, {"schema_version": SCHEMA_VERSION, **manifest})


def remove_unnamed(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Remove the shards that a manifest, already written, does not name: an earlier save's, or a cut-off one's."""
    variants = manifest["variants"].values()
    parts = [manifest["tokenizer"], manifest["starts"], *(v["files"] for v in variants)]
    parts += [v["novelty"]["files"] for v in variants if "novelty" in v]
    for place, names in ((folder, parts), (folder / TEXT_ENCODER, [manifest.get(TEXT_ENCODER, {})])):
        named = {name for part in names for name in part}
        for file in place.glob("*.safetensors"):
            if SHARD.fullmatch(file.name) and file.name not in named:
                file.unlink()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read config.json.

    Raises:
        CheckpointError: If it is missing, unreadable, of another schema or without something that worlds have.
    """
    file = folder / CONFIG_FILE
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{folder} holds no {CONFIG_FILE}; it is not a world, or its writing was cut off."
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Copy the folder again.") from error
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        kind = f", but has type {manifest['type']!r}" if isinstance(manifest, dict) and "type" in manifest else ""
        raise CheckpointError(
            f"{file} is not a world's: it names no schema_version{kind}. Expected a world of the zoo, or the folder of "
            "one, as stage=teacher and the stages after it export it."
        )
    version = manifest["schema_version"]
    if version != SCHEMA_VERSION:
        raise CheckpointError(
            f"{file} has schema version {version!r}; this cfworld reads {SCHEMA_VERSION}. Update cfworld, or save the "
            "world again."
        )
    if missing := {"world", "variants", "tokenizer", "starts"} - set(manifest):
        raise CheckpointError(f"{file} lacks {sorted(missing)}; copy the folder again.")
    if wrong := list(_misfits(manifest)):
        raise CheckpointError(f"{file}: {'; '.join(wrong)}. Copy the folder again, or save the world again.")
    return manifest


def _misfits(manifest: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the parts of a manifest."""
    for name in ("tokenizer", "starts"):
        yield from _file_misfits(name, manifest[name])
    if TEXT_ENCODER in manifest:
        yield from _file_misfits(TEXT_ENCODER, manifest[TEXT_ENCODER])
    if not isinstance(manifest["world"], dict):
        yield f"got {manifest['world']!r} as world; expected a mapping of its settings"
    variants = manifest["variants"]
    if not (isinstance(variants, dict) and variants):
        yield f"got {variants!r} as variants; expected a mapping of at least one"
        return
    for name, variant in variants.items():
        if not isinstance(variant, dict) or {"sampler", "files"} - set(variant):
            yield f"got {variant!r} as variant {name!r}; expected a mapping of sampler and files"
        else:
            yield from _file_misfits(f"files of variant {name!r}", variant["files"])
            yield from _novelty_misfits(name, variant.get("novelty"))


def _novelty_misfits(variant: str, novelty: Any) -> Iterator[str]:
    """Worlds that were never calibrated have none."""
    if novelty is None:
        return
    if not isinstance(novelty, dict) or {"layers", "typical", "limit", "files"} - set(novelty):
        yield f"got {novelty!r} as novelty of variant {variant!r}; expected layers, typical, limit and files"
    elif not isinstance(novelty["layers"], list) or not all(
        isinstance(novelty[name], int | float) for name in ("typical", "limit")
    ):
        numbers = {name: novelty[name] for name in ("layers", "typical", "limit")}
        yield f"got {numbers} as novelty of variant {variant!r}; expected a list of layers, and two numbers"
    else:
        yield from _file_misfits(f"files of the novelty of variant {variant!r}", novelty["files"])


def _file_misfits(what: str, names: Any) -> Iterator[str]:
    if not isinstance(names, dict) or not all(isinstance(checksum, str) for checksum in names.values()):
        yield f"got {names!r} as {what}; expected a mapping of files to SHA-256"
    elif outside := [name for name in names if Path(name).name != name]:
        yield f"got {outside} among {what}; expected names of files in this folder"


def _cut(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Tensors, those that are too large for a shard as pieces."""
    for name, tensor in tensors.items():
        num_bytes = tensor.numel() * tensor.element_size()
        if num_bytes <= MAX_SHARD_BYTES:
            yield name, tensor
            continue
        for index, piece in enumerate(tensor.split(max(1, MAX_SHARD_BYTES * len(tensor) // num_bytes))):
            yield f"{name}{PIECE}{index:05d}", piece


def _joined(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo `_cut`."""
    whole = {name: tensor for name, tensor in tensors.items() if PIECE not in name}
    pieces: dict[str, list[Tensor]] = {}
    for name in sorted(tensors.keys() - whole.keys()):
        pieces.setdefault(name.split(PIECE)[0], []).append(tensors[name])
    return whole | {name: torch.cat(parts) for name, parts in pieces.items()}


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
