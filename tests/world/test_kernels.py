"""A world computes by the fastest attention that runs where it is; another one, or 8 bits, are asked for by name."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import cfworld
from cfworld.errors import CheckpointError, ConfigError
from cfworld.model import AttentionBackend, TransformerConfig, attention_backends
from cfworld.world import world as world_module
from tests.toy import toy_config, toy_world
from tests.wan_toy import pipeline_folder, wan_world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_world().save_pretrained(tmp_path / "world")
    return tmp_path / "world"


def attention_of(world: cfworld.World) -> AttentionBackend:
    return world.generator.transformer.attention


def test_a_world_on_a_cpu_computes_by_pytorch(folder: Path):
    assert attention_of(toy_world()) is AttentionBackend.TORCH
    assert attention_of(cfworld.World.from_pretrained(folder)) is AttentionBackend.TORCH


def test_a_world_takes_the_fastest_that_runs_on_its_device(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """FlashAttention needs a GPU: here the check says that it runs."""
    monkeypatch.setattr(attention_backends, "why_not", lambda *_: None)
    assert attention_of(toy_world()) is AttentionBackend.FLASH3
    assert attention_of(cfworld.World.from_pretrained(folder)) is AttentionBackend.FLASH3
    assert attention_of(cfworld.World.from_pretrained(folder, attention="flash")) is AttentionBackend.FLASH


def test_another_attention_is_asked_for_by_name_and_computes_the_same(folder: Path):
    usual, by_hand = (
        cfworld.World.from_pretrained(folder, precision="fp32", attention=name) for name in ("auto", "math")
    )
    assert attention_of(by_hand) is AttentionBackend.MATH
    expected, got = (world.step(world.initial([0])[0], [1])[1].latents for world in (usual, by_hand))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"attention": "flash"}, "attention=flash cannot run here: it needs a CUDA device"),
    ({"attention": "sage"}, "attention='sage'; expected one of auto"),
    ({"fp8": True}, r"compute capability 8\.9"),
]


@pytest.mark.parametrize(("asked", "named"), WRONG)
def test_what_cannot_run_here_is_refused(folder: Path, asked: dict[str, Any], named: str):
    with pytest.raises(ConfigError, match=named):
        cfworld.World.from_pretrained(folder, **asked)


def test_a_world_out_of_wan_refuses_it_too(tmp_path: Path):
    with pytest.raises(ConfigError, match="attention=flash cannot run here"):
        wan_world(pipeline_folder(tmp_path), attention="flash")


def test_a_world_in_8_bits_has_another_name_and_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """torchao's layers need a GPU: here the weights stay as they are."""
    monkeypatch.setattr(world_module, "use_fp8", lambda _: None)
    world, exact = toy_world(), toy_world()
    world.use_kernels(fp8=True)
    assert world.fp8
    assert world.fingerprint != exact.fingerprint
    with pytest.raises(CheckpointError, match="without fp8"):
        world.save_pretrained(tmp_path)


def test_copies_that_share_weights_share_their_8_bits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(world_module, "use_fp8", lambda _: None)
    world = toy_world()
    before, other = world.fingerprint, copy.deepcopy(world)
    other.use_kernels(fp8=True)
    assert world.fp8
    assert world.fingerprint == other.fingerprint != before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_world_steps_by_flash_attention_as_by_pytorch(tmp_path: Path):
    wide = TransformerConfig(
        in_channels=4, latent_size=[8, 8], patch_size=[4, 4], dim=32, depth=2, num_heads=2, prompt_dim=16
    )
    toy_world(transformer=wide).save_pretrained(tmp_path)
    fast, plain = (
        cfworld.World.from_pretrained(tmp_path, device="cuda", precision="bf16", attention=name)
        for name in ("auto", "torch")
    )
    assert attention_of(fast).takes_lengths
    expected, got = (world.step(world.initial([0, 1])[0], [1, 2])[1].latents for world in (plain, fast))
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.05)


def test_heads_that_flash_attention_cannot_take_go_to_pytorch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(attention_backends, "_varlen", lambda: True)
    assert toy_config().transformer.head_dim == 12
    chosen = {
        width: attention_backends.chosen_backend("auto", "cuda", torch.bfloat16, width) for width in (12, 48, 264)
    }
    assert [chosen[width].value for width in (12, 48, 264)] == ["torch", "flash", "torch"]
