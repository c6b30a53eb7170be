"""The encoder of texts that a world brings along: a folder of its own beside the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfworld.errors import CheckpointError
from cfworld.prompts import TextConfig
from cfworld.prompts.umt5 import UMT5Texts, transformers_parts
from cfworld.world.checkpoint import SHARD, read_tensors, write_tensors

__all__ = ["open_text_encoder", "save_text_encoder"]

FOLDER = "text_encoder"


def save_text_encoder(world: Path, encoder: UMT5Texts) -> dict[str, str]:
    """Write an encoder and its tokenizer into a world's folder, weights in bfloat16; return the files' SHA-256."""
    folder = world / FOLDER
    model, tokenizer = encoder.model, encoder.tokenizer
    folder.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    checksums = write_tensors(folder, FOLDER, _own_tensors(model))
    for file in folder.glob("*.safetensors"):
        if SHARD.fullmatch(file.name) and file.name not in checksums:
            file.unlink()
    return checksums


def open_text_encoder(world: Path, checksums: Mapping[str, str], sizes: TextConfig, device: torch.device) -> UMT5Texts:
    """The encoder of a world's folder, read and checked when the first text comes.

    It computes on the world's device, in bfloat16 where that is a GPU.
    """
    folder = world / FOLDER

    def load() -> tuple[Any, Any]:
        parts = transformers_parts()
        try:
            config = parts.config.from_pretrained(folder)
            tokenizer = parts.tokenizer.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{folder} lacks a part of its encoder of texts: {error}") from error
        model = parts.model(config)
        tensors = read_tensors(folder, checksums)
        if _own_tensors(model).keys() != tensors.keys():
            raise CheckpointError(f"the weights in {folder} are not those of its config.json; copy the folder again.")
        model.load_state_dict(tensors, strict=False)  # what is tied to another tensor is not stored twice
        return model.to(device, torch.bfloat16 if device.type == "cuda" else torch.float32), tokenizer

    return UMT5Texts(load, sizes.tokens)


def _own_tensors(model: Any) -> dict[str, Tensor]:
    """Tensors by name, in bfloat16; of those that share their numbers only one."""
    return {name: value.detach().bfloat16() for name, value in model.named_parameters()}
