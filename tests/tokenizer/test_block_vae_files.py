"""A tokenizer's folder: what is written comes back, and what is not whole is refused."""

from pathlib import Path

import pytest
import torch

from cfworld.errors import CheckpointError
from cfworld.tokenizer.block_vae_files import read_block_vae, write_block_vae
from tests.tokenizer.test_block_vae import random_frames, small


@torch.no_grad()
def test_a_saved_tokenizer_comes_back_bit_for_bit(tmp_path: Path) -> None:
    tokenizer, frames = small(), random_frames(1, 4)
    tokenizer.set_statistics(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0]))
    write_block_vae(tokenizer, tmp_path)
    loaded = read_block_vae(tmp_path)
    assert loaded.config == tokenizer.config
    assert torch.equal(loaded.encode(frames), tokenizer.encode(frames))


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="stage=tokenizer"):
        read_block_vae(tmp_path)


def test_weights_of_other_sizes_are_refused(tmp_path: Path) -> None:
    write_block_vae(small(), tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"latent_channels": 3', '"latent_channels": 4'))
    with pytest.raises(CheckpointError, match="do not fit"):
        read_block_vae(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_file_is_refused_with_its_folder(tmp_path: Path, name: str, content: bytes) -> None:
    write_block_vae(small(), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        read_block_vae(tmp_path)
