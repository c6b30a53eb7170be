from typing import Any

import pytest
import torch

from cfworld.errors import ConfigError, ShapeError
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.tokenizer.block_vae import to_frames, to_pixels


def small(**changes: Any) -> BlockVAE:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"latent_channels": 3, **changes}
    config = BlockVAEConfig(
        resolution=[8, 16], widths=[16, 32], encoder_depths=[1, 0], decoder_depths=[1, 1], **settings
    )
    tokenizer = BlockVAE(config).eval()
    for parameter in tokenizer.parameters():  # residual branches start at zero; tests want them to act
        torch.nn.init.normal_(parameter, std=0.1)
    return tokenizer


def random_frames(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (*shape, 8, 16, 3), dtype=torch.uint8)


def test_four_frames_make_one_latent_and_come_back() -> None:
    tokenizer = small()
    latents = tokenizer.encode(random_frames(2, 12))
    assert latents.shape == (2, 3, *tokenizer.latent_shape) == (2, 3, 3, 2, 4)
    assert latents.dtype == torch.float32
    frames = tokenizer.decode(latents)
    assert frames.shape == (2, 12, 8, 16, 3)
    assert frames.dtype == torch.uint8


def test_default_sizes_are_those_of_the_shipped_worlds() -> None:
    tokenizer = BlockVAE(BlockVAEConfig())
    assert tokenizer.latent_shape == (16, 8, 8)
    assert 2.5e6 < sum(parameter.numel() for parameter in tokenizer.parameters()) < 3.5e6


def test_encoding_twice_gives_the_same_latents() -> None:
    tokenizer, frames = small(), random_frames(1, 4)
    assert torch.equal(tokenizer.encode(frames), tokenizer.encode(frames))


@torch.no_grad()
def test_a_latent_depends_on_its_own_frames_alone() -> None:
    tokenizer, frames = small(), random_frames(1, 8)
    other = frames.clone()
    other[:, :4] = 255 - other[:, :4]
    changed = (tokenizer.encode(frames) - tokenizer.encode(other)).abs().amax(dim=(0, 2, 3, 4))
    assert changed[0] > 0.01
    assert changed[1] < 1e-5


@pytest.mark.parametrize("shortcuts", [False, True])
@torch.no_grad()
def test_rows_are_decoded_independently(shortcuts: bool) -> None:
    tokenizer = small(shortcuts=shortcuts)
    latents = torch.randn(5, 2, *tokenizer.latent_shape)
    alone = tokenizer.decode(latents[3:4]).int()
    together = tokenizer.decode(latents)[3:4].int()
    assert (alone - together).abs().max() <= 1  # a value half way between two may round either way


@torch.no_grad()
def test_a_training_pass_reconstructs_as_encoding_and_decoding_do() -> None:
    tokenizer, frames = small(shortcuts=True), random_frames(3, 4)
    blank = torch.zeros(3, *tokenizer.latent_shape)
    trained = to_frames(tokenizer(to_pixels(frames), blank, blank).pixels, 4)
    assert (trained.int() - tokenizer.decode(tokenizer.encode(frames)).int()).abs().max() <= 1


@torch.no_grad()
def test_shortcuts_carry_every_pixel_where_latents_have_room_for_all() -> None:
    """A cell of 4x4 pixels and 4 frames has 192 numbers: with as many channels, identities lose nothing."""
    numbers = 3 * 4 * 4 * 4
    tokenizer = small(latent_channels=numbers, shortcuts=True)
    for parameter in tokenizer.parameters():
        parameter.zero_()
    tokenizer.get_parameter("shortcuts.encoder.1.weight")[:, :, 0, 0].copy_(torch.eye(numbers))
    tokenizer.get_parameter("shortcuts.decoder.0.weight")[:, :, 1, 1].copy_(torch.eye(numbers))
    frames = random_frames(2, 8)
    assert torch.equal(tokenizer.decode(tokenizer.encode(frames)), frames)


def test_a_new_decoder_adds_nothing_by_its_shortcut() -> None:
    tokenizer = BlockVAE(BlockVAEConfig(shortcuts=True))
    latents = torch.randn(1, *tokenizer.latent_shape)
    assert tokenizer.shortcuts is not None
    assert tokenizer.shortcuts["decoder"](latents).abs().max() == 0


def test_the_encoding_state_holds_the_encoders_shortcut_and_not_the_decoders() -> None:
    names = BlockVAE(BlockVAEConfig(shortcuts=True)).encoding_state().keys()
    assert "shortcuts.encoder.1.weight" in names
    assert not any("decoder" in name for name in names)


def test_frames_to_pixels_and_back_is_exact_for_every_value() -> None:
    frames = torch.arange(256, dtype=torch.uint8).reshape(2, 4, 4, 8, 1).expand(-1, -1, -1, -1, 3).contiguous()
    assert torch.equal(to_frames(to_pixels(frames), 4), frames)


def test_statistics_bring_latents_to_unit_scale() -> None:
    tokenizer, frames = small(), random_frames(16, 4)
    raw = tokenizer.encode(frames).detach()
    mean, std = raw.mean(dim=(0, 1, 3, 4)), raw.std(dim=(0, 1, 3, 4))
    before = tokenizer.decode(raw)
    tokenizer.set_statistics(mean, std)
    latents = tokenizer.encode(frames).detach()
    torch.testing.assert_close(latents.mean(dim=(0, 1, 3, 4)), torch.zeros(3), atol=1e-4, rtol=0.0)
    torch.testing.assert_close(latents.std(dim=(0, 1, 3, 4)), torch.ones(3), atol=1e-4, rtol=0.0)
    assert (tokenizer.decode(latents).int() - before.int()).abs().max() <= 1


@torch.no_grad()
def test_bf16_decodes_nearly_the_same_frames() -> None:
    tokenizer = small()
    latents = torch.randn(1, 1, *tokenizer.latent_shape)
    exact = tokenizer.decode(latents).float()
    assert (tokenizer.to(torch.bfloat16).decode(latents).float() - exact).abs().mean() < 4.0


@pytest.mark.parametrize("shape", [(1, 3, 8, 16, 3), (1, 0, 8, 16, 3), (1, 4, 16, 8, 3)])
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="expected"):
        small().encode(torch.zeros(shape, dtype=torch.uint8))


def test_latents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected \[B, N, 3, 2, 4\]"):
        small().decode(torch.zeros(1, 1, 3, 4, 2))


@pytest.mark.parametrize(
    "values",
    [
        {"resolution": [60, 64]},
        {"widths": [64, 100, 192]},
        {"widths": []},
        {"encoder_depths": [1]},
        {"frames_per_latent": 0},
    ],
)
def test_sizes_that_contradict_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        BlockVAEConfig(**values)  # pyright: ignore[reportArgumentType]
