"""Decoders that stream: however a video is cut, its frames are the same, and what is carried is a value."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cfworld.errors import ConfigError, ShapeError
from cfworld.tokenizer import BlockVAE, BlockVAEConfig, TinyVAE, TinyVAEConfig, Tokenizer, WanVAE, WanVAEConfig
from tests.wan_toy import VAE_SIZES, diffusers_vae, randomised

LATENT = (4, 4, 6)
SIZE = (16, 24)


def wan_vae() -> WanVAE:
    vae = WanVAE(WanVAEConfig(resolution=list(SIZE), **VAE_SIZES)).eval()
    vae.vae.load_state_dict(diffusers_vae().state_dict())
    return vae.requires_grad_(False)


def tiny_vae(resolution: tuple[int, int] = (32, 48)) -> TinyVAE:
    config = TinyVAEConfig(resolution=list(resolution), z_dim=4, width=4, widths=[6, 5, 4, 3])
    return randomised(TinyVAE(config))  # pyright: ignore[reportReturnType]


MAKERS = {"wan": wan_vae, "tiny": tiny_vae}


@pytest.fixture(scope="module", params=list(MAKERS))
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    maker: Callable[[], Tokenizer] = MAKERS[request.param]
    return maker()


def video(num_latents: int = 7, rows: int = 2) -> Tensor:
    return torch.randn(rows, num_latents, *LATENT, generator=torch.Generator().manual_seed(1))


def test_wans_decoder_shows_what_diffusers_decodes():
    latents = video()
    mean, std = (torch.tensor(VAE_SIZES[name])[None, :, None, None, None] for name in ("latents_mean", "latents_std"))
    pixels = diffusers_vae().decode(latents.transpose(1, 2) * std + mean).sample
    expected = ((pixels.permute(0, 2, 3, 4, 1) + 1) * 127.5).round()
    found = wan_vae().decode(latents)
    assert expected.shape == (2, 25, *SIZE, 3)
    assert found.shape == (2, 28, *SIZE, 3)
    assert (found[:, 3:].float() - expected).abs().max() <= 1, "a row by itself may round differently"
    assert (found[:, 3:].float() != expected).float().mean() < 0.01
    assert expected.std() > 10


def test_wans_encoder_takes_the_last_of_the_first_four_frames_and_all_later_ones():
    frames = torch.randint(0, 256, (2, 12, *SIZE, 3), dtype=torch.uint8)
    pixels = (frames[:, 3:].permute(0, 4, 1, 2, 3) / 127.5) - 1
    raw = diffusers_vae().encode(pixels).latent_dist.mode().transpose(1, 2)
    mean, std = (torch.tensor(VAE_SIZES[name])[:, None, None] for name in ("latents_mean", "latents_std"))
    torch.testing.assert_close(wan_vae().encode(frames), (raw - mean) / std, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cuts", [[3, 3, 1], [1, 1, 5], [2, 5]])
def test_frames_do_not_depend_on_how_a_video_is_cut(tokenizer: Tokenizer, cuts: list[int]):
    latents = video()
    pieces, stream = [], None
    for piece in latents.split(cuts, dim=1):
        frames, stream = tokenizer.decode_next(piece, stream)
        assert frames.shape[1] == 4 * piece.shape[1]
        pieces.append(frames)
    assert torch.equal(torch.cat(pieces, dim=1), tokenizer.decode(latents))


def test_the_first_latent_is_one_frame_held(tokenizer: Tokenizer):
    frames = tokenizer.decode(video())
    assert all(torch.equal(frames[:, 0], frames[:, held]) for held in (1, 2, 3))
    assert not torch.equal(frames[:, 3], frames[:, 4])


def test_what_is_carried_is_a_value_with_rows(tokenizer: Tokenizer):
    first, second = video().split([3, 4], dim=1)
    _, stream = tokenizer.decode_next(first, None)
    before = {name: value.clone() for name, value in stream.items()}
    both, after = tokenizer.decode_next(second, stream)
    assert all(torch.equal(stream[name], before[name]) for name in before)
    assert {name: value.shape for name, value in after.items()} == {n: v.shape for n, v in before.items()}
    alone, _ = tokenizer.decode_next(second[1:], {name: value[1:] for name, value in stream.items()})
    assert torch.equal(alone[0], both[1])


def test_frames_depend_on_the_latents_before_them(tokenizer: Tokenizer):
    assert tokenizer.streams
    first, second = video().split([3, 4], dim=1)
    _, stream = tokenizer.decode_next(first, None)
    _, other = tokenizer.decode_next(-first, None)
    assert not torch.equal(tokenizer.decode_next(second, stream)[0], tokenizer.decode_next(second, other)[0])


def test_a_tokenizer_that_does_not_stream_carries_nothing():
    block = BlockVAE(BlockVAEConfig(resolution=[16, 16], widths=[16, 16], encoder_depths=[1, 1], decoder_depths=[1, 1]))
    frames, stream = block.decode_next(torch.zeros(1, 2, 16, 4, 4), None)
    assert not block.streams
    assert frames.shape == (1, 8, 16, 16, 3)
    assert stream == {}


def test_the_tiny_one_names_its_tensors_as_published_files_do():
    shapes = {name: list(value.shape) for name, value in TinyVAE(TinyVAEConfig()).state_dict().items()}
    assert shapes["encoder.0.weight"] == [64, 3, 3, 3]
    assert shapes["encoder.2.conv.weight"] == [64, 128, 1, 1]
    assert shapes["encoder.12.conv.weight"] == [64, 64, 1, 1]
    assert shapes["encoder.16.conv.4.bias"] == [64]
    assert shapes["encoder.17.weight"] == [16, 64, 3, 3]
    assert shapes["decoder.1.weight"] == [256, 16, 3, 3]
    assert shapes["decoder.3.conv.0.weight"] == [256, 512, 3, 3]
    assert shapes["decoder.7.conv.weight"] == [256, 256, 1, 1]
    assert shapes["decoder.13.conv.weight"] == [256, 128, 1, 1]
    assert shapes["decoder.20.weight"] == [64, 64, 3, 3]
    assert shapes["decoder.22.bias"] == [3]
    assert not {"decoder.8.bias", "decoder.14.bias", "decoder.20.bias"} & shapes.keys()


def test_the_tiny_one_makes_as_many_latents_as_wans(tokenizer: Tokenizer):
    frames = torch.randint(0, 256, (1, 12, *tokenizer.resolution, 3), dtype=torch.uint8)
    assert tokenizer.encode(frames).shape == (1, 3, *tokenizer.latent_shape)
    with pytest.raises(ShapeError, match="multiple of 4"):
        tokenizer.encode(frames[:, :9])


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="multiples of 8"):
        WanVAEConfig(resolution=[30, 32])
    with pytest.raises(ConfigError, match="one for each of 4 channels"):
        WanVAEConfig(z_dim=4)
    with pytest.raises(ConfigError, match="two of them on"):
        WanVAEConfig(temperal_downsample=[True, True, True])
    with pytest.raises(ConfigError, match="multiples of 8"):
        TinyVAEConfig(resolution=[30, 32])
