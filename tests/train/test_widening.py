"""A network of few latent channels is the beginning of one with more: at first it does what it did."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.model import Transformer, TransformerConfig
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.train.run_state import check_config
from cfworld.train.widening import widened_generator, widened_vae

SMALL = BlockVAEConfig(resolution=[8, 8], latent_channels=2, widths=[16], encoder_depths=[1], decoder_depths=[1])
NARROW = TransformerConfig(in_channels=2, latent_size=[4, 4], dim=12, num_heads=2, ffn_dim=24, depth=1, freq_dim=16)


def tokenizer(**changes: Any) -> BlockVAE:
    """One that loses something: random weights."""
    torch.manual_seed(0)
    vae = BlockVAE(replace(SMALL, **changes)).eval()
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return vae


def blocks(count: int = 40) -> torch.Tensor:
    return torch.rand(count, 12, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


def reconstructed(vae: BlockVAE, pixels: torch.Tensor) -> torch.Tensor:
    blank = torch.zeros(len(pixels), *vae.latent_shape)
    return vae(pixels, blank, blank).pixels


@pytest.mark.parametrize("shortcuts", [False, True])
@torch.no_grad()
def test_a_widened_tokenizer_reconstructs_as_the_old_one(shortcuts: bool):
    old, pixels = tokenizer(shortcuts=shortcuts), blocks()
    new = widened_vae(old, replace(SMALL, latent_channels=5, shortcuts=True), pixels)
    torch.testing.assert_close(reconstructed(new, pixels), reconstructed(old, pixels))
    torch.testing.assert_close(new.posterior(pixels)[0][:, :2], old.posterior(pixels)[0])


@torch.no_grad()
def test_its_new_channels_read_what_the_old_ones_lose_most():
    """The old one keeps red, which varies most, and paints no green: the new channel reads green alone."""
    old = tokenizer(shortcuts=True)
    for parameter in old.parameters():
        parameter.zero_()
    red = [3 * 4 * frame + place for frame in range(4) for place in range(4)]  # of a cell's 2x2 pixels and 3 colours
    old.get_parameter("shortcuts.encoder.1.weight")[0, red] = 1 / len(red)
    old.get_parameter("shortcuts.decoder.0.weight")[red, 0, 1, 1] = 1.0
    hues = torch.rand(40, 2, generator=torch.Generator().manual_seed(2))
    pixels = torch.zeros(40, 12, 8, 8)
    pixels[:, 0::3], pixels[:, 1::3] = hues[:, 0, None, None, None], 0.3 * hues[:, 1, None, None, None]
    torch.testing.assert_close(reconstructed(old, pixels)[:, 0::3], pixels[:, 0::3])
    new = widened_vae(old, replace(SMALL, latent_channels=3, shortcuts=True), pixels)
    read = new.posterior(pixels)[0][:, 2]
    assert float(read.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert float(read.mean()) == pytest.approx(float(new.latent_mean[2]), abs=1e-4)
    green = pixels[:, 1, :4, :4]
    assert float(torch.corrcoef(torch.stack([read.flatten(), green.flatten()]))[0, 1]) == pytest.approx(1.0, abs=1e-4)


@torch.no_grad()
def test_its_new_channels_begin_with_as_little_noise_as_the_old_ones():
    old, pixels = tokenizer(), blocks()
    _, before = old.posterior(pixels)
    _, after = widened_vae(old, replace(SMALL, latent_channels=4, shortcuts=True), pixels).posterior(pixels)
    torch.testing.assert_close(after[:, 2:], before.mean(dim=1, keepdim=True).expand(-1, 2, -1, -1))


@pytest.mark.parametrize(
    "change", [{"latent_channels": 1}, {"widths": [32]}, {"shortcuts": False}, {"latent_channels": 51}]
)
def test_a_tokenizer_is_widened_in_channels_alone(change: dict[str, Any]):
    sizes = replace(SMALL, **({"latent_channels": 3, "shortcuts": True} | change))
    with pytest.raises(ConfigError, match=f"Cannot widen a tokenizer.* {next(iter(change))}="):
        widened_vae(tokenizer(), sizes, blocks())


def no_context(_layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return keys.flatten(1, 2)[:, :0], values.flatten(1, 2)[:, :0]


def state(sizes: TransformerConfig) -> dict[str, torch.Tensor]:
    """As a generator names it."""
    torch.manual_seed(0)
    transformer = Transformer(sizes)
    for parameter in transformer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return {f"transformer.{name}": tensor for name, tensor in transformer.state_dict().items()}


def velocity(weights: dict[str, torch.Tensor], sizes: TransformerConfig, noisy: torch.Tensor) -> torch.Tensor:
    transformer = Transformer(sizes)
    transformer.load_state_dict({name.removeprefix("transformer."): tensor for name, tensor in weights.items()})
    given = torch.full((1, 1), 0.7), torch.ones(1, 1, 4, 128), torch.zeros(1, 1, dtype=torch.long), no_context
    return transformer(noisy, *given).velocity


@pytest.mark.parametrize("skipped", [False, True])
@torch.no_grad()
def test_a_widened_transformer_predicts_the_old_channels_velocity_and_nothing_for_the_new_ones(skipped: bool):
    sizes = replace(NARROW, input_skip=skipped)
    weights, wide = state(sizes), replace(NARROW, in_channels=5, input_skip=True)
    noisy = torch.randn(1, 1, 5, 4, 4)
    got = velocity(widened_generator(weights, sizes, wide), wide, noisy)
    torch.testing.assert_close(got[:, :, :2], velocity(weights, sizes, noisy[:, :, :2]))
    assert got[:, :, 2:].abs().max() == 0


@pytest.mark.parametrize("change", [{"in_channels": 1}, {"dim": 24}, {"depth": 2}, {"input_skip": False}])
def test_a_transformer_is_widened_in_channels_alone(change: dict[str, Any]):
    (name,), old = change, replace(NARROW, input_skip=True)
    with pytest.raises(ConfigError, match=f"Cannot widen a transformer.*{name}="):
        widened_generator(state(old), old, replace(old, **change))


def test_a_run_that_knew_neither_shortcuts_nor_skip_goes_on_without_them(tmp_path: Path):
    before = {"world": {"tokenizer": {"widths": [16]}, "transformer": {"dim": 12}}}
    now = {
        "world": {"tokenizer": {"widths": [16], "shortcuts": False}, "transformer": {"dim": 12, "input_skip": False}}
    }
    check_config(before, now, tmp_path, 0)
    now["world"]["tokenizer"]["shortcuts"] = True
    with pytest.raises(ConfigError, match="shortcuts: False -> True"):
        check_config(before, now, tmp_path, 0)
