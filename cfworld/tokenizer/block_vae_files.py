"""The folder of an exported BlockVAE: `tokenizer.safetensors` and `config.json`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cfworld import files
from cfworld.errors import CheckpointError
from cfworld.tokenizer.block_vae import BlockVAE, BlockVAEConfig

__all__ = ["read_block_vae", "write_block_vae"]

_TYPE = "block_vae"
_CONFIG, _WEIGHTS = "config.json", "tokenizer.safetensors"


def write_block_vae(tokenizer: BlockVAE, folder: Path) -> None:
    """Write both files into a folder, each aside and then renamed."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in tokenizer.state_dict().items()}
    with files.write_aside(folder / _WEIGHTS) as aside:
        save_file(tensors, aside)
    files.write_json(folder / _CONFIG, {"type": _TYPE, **asdict(tokenizer.config)})


def read_block_vae(folder: Path) -> BlockVAE:
    """Read a tokenizer that `write_block_vae` wrote.

    Returns:
        The tokenizer on the CPU, in evaluation mode.

    Raises:
        CheckpointError: If a file is missing or damaged, or weights and configuration do not fit together.
    """
    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"got no file {name} in {folder}; expected an exported tokenizer. Run "
                "`cfworld train stage=tokenizer` first, or give another folder."
            )
    try:
        values = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        weights = load_file(folder / _WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"Cannot read the tokenizer in {folder}: {error}. Copy the folder again, or export it again."
        ) from error
    tokenizer = BlockVAE(_config(values, folder))
    try:
        tokenizer.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"The weights in {folder} do not fit its config.json: {error}. Export the tokenizer again."
        ) from error
    return tokenizer.eval()


def _config(values: Any, folder: Path) -> BlockVAEConfig:
    kind = values.get("type") if isinstance(values, dict) else None
    if kind != _TYPE:
        raise CheckpointError(f"got a tokenizer of type {kind!r} in {folder}; expected {_TYPE!r}.")
    try:
        return BlockVAEConfig(**{name: value for name, value in values.items() if name != "type"})
    except TypeError as error:
        raise CheckpointError(f"got an unreadable config.json in {folder}: {error}.") from error
