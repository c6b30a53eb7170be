"""The encoder of texts that a world brings along: a folder of its own beside the weights."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from cfworld.errors import CheckpointError
from cfworld.files import write_aside
from cfworld.model.tensors import check_tensors
from cfworld.prompts.umt5 import UMT5Texts, transformers_parts
from cfworld.world.checkpoint import TEXT_ENCODER, read_tensors, write_tensors

__all__ = ["open_text_encoder", "save_text_encoder"]


def save_text_encoder(world: Path, encoder: UMT5Texts) -> dict[str, str]:
    """Write an encoder and its tokenizer into a world's folder, weights in bfloat16; return the weights' SHA-256."""
    folder = world / TEXT_ENCODER
    model, tokenizer = encoder.model, encoder.tokenizer
    with TemporaryDirectory() as aside:
        model.config.save_pretrained(aside)
        tokenizer.save_pretrained(aside)
        for file in Path(aside).iterdir():
            with write_aside(folder / file.name) as whole:
                shutil.copyfile(file, whole)
    return write_tensors(folder, TEXT_ENCODER, _own_tensors(model))


def open_text_encoder(
    world: Path, checksums: Mapping[str, str], num_tokens: int, device: torch.device, dtype: torch.dtype
) -> UMT5Texts:
    """The encoder of a world's folder, read and checked when the first text comes; see `UMT5Texts.from_folder`."""
    folder = world / TEXT_ENCODER

    def load() -> tuple[Any, Any]:
        parts = transformers_parts()
        try:
            config = parts.config.from_pretrained(folder)
            tokenizer = parts.tokenizer.from_pretrained(folder)
        except Exception as error:  # transformers and tokenizers each raise their own kinds
            raise CheckpointError(
                f"{folder} lacks a part of its encoder of texts, or holds a damaged one ({error}); copy the world "
                "again."
            ) from error
        with torch.device("meta"):
            model = parts.model(config)
        tensors = read_tensors(folder, checksums)
        check_tensors("UMT5 encoder", _own_tensors(model), tensors, str(folder))
        model.load_state_dict(tensors, strict=False, assign=True)
        model.tie_weights()  # what is tied to another tensor is not stored twice
        return model.to(device, dtype), tokenizer

    name = hashlib.sha256(json.dumps([dict(checksums), num_tokens, str(dtype)]).encode()).hexdigest()[:12]
    return UMT5Texts(load, num_tokens, name)


def _own_tensors(model: Any) -> dict[str, Tensor]:
    """Tensors by name, in bfloat16; of those that share their numbers only one."""
    return {name: value.detach().bfloat16() for name, value in model.named_parameters()}
