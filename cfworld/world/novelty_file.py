"""A world's novelty score on disk: an entry of its variant in config.json, and a small safetensors file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cfworld.errors import CheckpointError
from cfworld.model import TransformerConfig
from cfworld.world.checkpoint import read_manifest, read_tensors, remove_unnamed, write_manifest, write_tensors
from cfworld.world.novelty import Novelty

__all__ = ["add_novelty", "read_novelty", "write_novelty"]

_TENSORS = ("offset", "before", "after")


def write_novelty(folder: Path, variant: str, novelty: Novelty) -> dict[str, Any]:
    """Write the score's matrices, in half precision; return its entry in config.json."""
    tensors = {name: getattr(novelty, name).half() for name in _TENSORS[1:]} | {"offset": novelty.offset.float()}
    return {
        "layers": list(novelty.layers),
        "typical": novelty.typical,
        "limit": novelty.limit,
        "files": write_tensors(folder, f"{variant}-novelty", tensors),
    }


def read_novelty(folder: Path, entry: Mapping[str, Any] | None, network: TransformerConfig) -> Novelty | None:
    """Read the score of a variant, if it was ever measured.

    Raises:
        CheckpointError: If it does not fit the network, or is damaged.
    """
    if entry is None:
        return None
    tensors = read_tensors(folder, entry["files"])
    layers, width = entry["layers"], len(entry["layers"]) * network.dim
    fits = sorted(tensors) == sorted(_TENSORS) and tensors["offset"].shape == (width,)
    if not fits or not all(isinstance(layer, int) and 0 <= layer < network.depth for layer in layers):
        raise CheckpointError(
            f"the novelty score in {folder} is of layers {layers} and {sorted(tensors)}; expected {list(_TENSORS)} for "
            f"layers of a network {network.depth} deep and {network.dim} wide. Run `cfworld calibrate` again."
        )
    return Novelty(layers=tuple(layers), typical=entry["typical"], limit=entry["limit"], **tensors)


def add_novelty(folder: Path, variant: str, novelty: Novelty) -> None:
    """Put a score into a world on disk, in the place of its variant's earlier one; nothing else there changes."""
    manifest = read_manifest(folder)
    chosen = {**manifest["variants"][variant], "novelty": write_novelty(folder, variant, novelty)}
    manifest = {**manifest, "variants": {**manifest["variants"], variant: chosen}}
    write_manifest(folder, manifest)
    remove_unnamed(folder, manifest)
