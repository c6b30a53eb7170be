"""A variational autoencoder that holds each block of frames in one latent, without state between blocks.

Shape suffixes: B rows, N latents, F frames, H W pixels, C latent channels, h w latent cells, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn
from torch.nn import functional

from cfworld.errors import ConfigError
from cfworld.settings import check_counts
from cfworld.tokenizer.base import Tokenizer

__all__ = ["BlockVAE", "BlockVAEConfig", "Reconstruction"]

NORM_GROUP_CHANNELS = 16


@dataclass(kw_only=True, slots=True)
class BlockVAEConfig:
    """Sizes of a BlockVAE.

    Attributes:
        resolution: Height and width of a frame; multiples of 2 ** len(widths).
        frames_per_latent: Frames stacked into one block.
        latent_channels: Channels of a latent.
        widths: Feature channels at 1/2, 1/4, ... of the resolution; multiples of 16.
        encoder_depths: Residual blocks of the encoder at each width.
        decoder_depths: Residual blocks of the decoder at each width.
        shortcuts: Whether a linear map of each cell's pixels goes around the encoder, and one of the latents around the
            decoder (after DC-AE, arXiv 2410.10733, whose shortcuts go around each level and have no weights).
    """

    resolution: list[int] = field(default_factory=lambda: [64, 64])
    frames_per_latent: int = 4
    latent_channels: int = 16
    widths: list[int] = field(default_factory=lambda: [64, 128, 192])
    encoder_depths: list[int] = field(default_factory=lambda: [1, 1, 1])
    decoder_depths: list[int] = field(default_factory=lambda: [2, 2, 1])
    shortcuts: bool = False

    def __post_init__(self) -> None:
        levels = len(self.widths)
        if levels == 0 or len(self.encoder_depths) != levels or len(self.decoder_depths) != levels:
            raise ConfigError(
                f"got {levels} widths, {len(self.encoder_depths)} encoder depths and "
                f"{len(self.decoder_depths)} decoder depths; expected equally many of each, at least one."
            )
        if min(*self.encoder_depths, *self.decoder_depths) < 0:
            raise ConfigError(
                f"got encoder_depths {self.encoder_depths} and decoder_depths {self.decoder_depths}; expected 0 or "
                "more residual blocks at each width."
            )
        if any(width <= 0 or width % NORM_GROUP_CHANNELS for width in self.widths):
            raise ConfigError(f"got widths {self.widths}; expected positive multiples of {NORM_GROUP_CHANNELS}.")
        if len(self.resolution) != 2 or any(size <= 0 or size % 2**levels for size in self.resolution):
            raise ConfigError(
                f"got resolution {self.resolution} with {levels} widths; expected height and width as "
                f"positive multiples of {2**levels}. Change the resolution or the number of widths."
            )
        check_counts(self, "frames_per_latent", "latent_channels")

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        height, width = (size // 2 ** len(self.widths) for size in self.resolution)
        return self.latent_channels, height, width

    def build(self) -> "BlockVAE":
        """The tokenizer of these sizes, with random weights."""
        return BlockVAE(self)


class Reconstruction(NamedTuple):
    """What one training pass gives.

    Attributes:
        pixels: Reconstructed blocks [B, 3 * frames_per_latent, H, W], about -1 to 1.
        mean: Posterior means [B, C, h, w], not normalised.
        logvar: Logarithms of the posterior variances [B, C, h, w].
    """

    pixels: Tensor
    mean: Tensor
    logvar: Tensor


def _channel_std(latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "1 C 1 1"]:
    return latents.std(dim=(0, 2, 3), keepdim=True)


class _GroupNorm(nn.GroupNorm):
    """Group normalisation that sums each image by itself when it infers on a CPU.

    In the channels-last layout, PyTorch parts the pixels of all large images among its threads: the order of a sum
    would depend on the number of images.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or torch.is_grad_enabled() or torch.get_num_threads() == 1:
            return super().forward(input)
        return super().forward(input.contiguous()).contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Two normalised 3x3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        groups = width // NORM_GROUP_CHANNELS
        self.norm1 = _GroupNorm(groups, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = _GroupNorm(groups, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x_BDHW: Tensor) -> Tensor:
        h_BDHW = self.conv1(functional.silu(self.norm1(x_BDHW)))
        return x_BDHW + self.conv2(functional.silu(self.norm2(h_BDHW)))


def _head(width: int, out_channels: int) -> nn.Sequential:
    norm = _GroupNorm(width // NORM_GROUP_CHANNELS, width)
    return nn.Sequential(norm, nn.SiLU(), nn.Conv2d(width, out_channels, 3, padding=1))


def _build_shortcuts(config: BlockVAEConfig) -> nn.ModuleDict:
    """Linear maps around the encoder and the decoder; the decoder's begins at zero."""
    cell = 2 ** len(config.widths)
    numbers = 3 * config.frames_per_latent * cell**2
    expand = nn.Conv2d(config.latent_channels, numbers, 3, padding=1, bias=False)
    nn.init.zeros_(expand.weight)
    project = nn.Conv2d(numbers, config.latent_channels, 1, bias=False)
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.PixelUnshuffle(cell), project),
            "decoder": nn.Sequential(expand, nn.PixelShuffle(cell)),
        }
    )


def _build_encoder(config: BlockVAEConfig) -> nn.Sequential:
    in_channels = 4 * 3 * config.frames_per_latent
    layers: list[nn.Module] = [nn.PixelUnshuffle(2), nn.Conv2d(in_channels, config.widths[0], 3, padding=1)]
    for level, (width, depth) in enumerate(zip(config.widths, config.encoder_depths, strict=True)):
        if level > 0:
            layers.append(nn.Conv2d(config.widths[level - 1], width, 3, stride=2, padding=1))
        layers += [ResidualBlock(width) for _ in range(depth)]
    layers.append(_head(config.widths[-1], 2 * config.latent_channels))
    return nn.Sequential(*layers)


def _build_decoder(config: BlockVAEConfig) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(config.latent_channels, config.widths[-1], 3, padding=1)]
    for level in reversed(range(len(config.widths))):
        width = config.widths[level]
        layers += [ResidualBlock(width) for _ in range(config.decoder_depths[level])]
        if level > 0:
            layers += [nn.Conv2d(width, 4 * config.widths[level - 1], 1), nn.PixelShuffle(2)]
    layers += [_head(config.widths[0], 4 * 3 * config.frames_per_latent), nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


class BlockVAE(Tokenizer):
    """Block-wise VAE: each `frames_per_latent` frames become one latent, independently of all others.

    The frames of a block are stacked on the channel axis and a 2x2 space-to-depth step comes first, so that
    no convolution runs at full resolution. `encode` returns the posterior mean, normalised per channel by
    statistics stored beside the weights (`set_statistics`).
    """

    latent_mean: Tensor
    latent_std: Tensor

    def __init__(self, config: BlockVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = _build_encoder(config)
        self.decoder = _build_decoder(config)
        self.shortcuts = _build_shortcuts(config) if config.shortcuts else None
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_std", torch.ones(config.latent_channels))
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @property
    def frames_per_latent(self) -> int:
        """Frames that one latent holds."""
        return self.config.frames_per_latent

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        height, width = self.config.resolution
        return height, width

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: channels, height, width."""
        return self.config.latent_shape

    def forward(
        self,
        pixels: Float[Tensor, "B P H W"],
        noise: Float[Tensor, "B C h w"],
        jitter: Float[Tensor, "B C h w"],
        scale_of: Callable[[Tensor], Tensor] = _channel_std,
    ) -> Reconstruction:
        """Encode, sample the posterior and decode: one training pass.

        Args:
            pixels: Blocks with frames and colours on the channel axis (see `to_pixels`), -1 to 1.
            noise: Standard normal noise that samples the posterior.
            jitter: Noise added to the sampled latents in units of each channel's standard deviation in this
                batch, so that the decoder bears the errors of generated latents. Zeros turn it off.
            scale_of: Gives that deviation [1, C, 1, 1] of latents; of those of a larger batch, where these are a part.

        Returns:
            Reconstructed pixels and the posterior.
        """
        mean, logvar = self.posterior(pixels)
        latents = mean + torch.exp(0.5 * logvar) * noise
        latents = latents + jitter * scale_of(latents.detach())
        return Reconstruction(self._with_shortcut("decoder", latents, self.decoder(latents)), mean, logvar)

    def posterior(self, pixels: Float[Tensor, "B P H W"]) -> tuple[Tensor, Tensor]:
        """Return mean and log variance, both float32 [B, C, h, w] and not normalised, of blocks of pixels."""
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        mean, logvar = self.encoder(pixels).float().chunk(2, dim=1)
        return self._with_shortcut("encoder", pixels, mean), logvar.clamp(-20.0, 4.0)

    def encode(self, frames: UInt8[Tensor, "B F H W 3"]) -> Float32[Tensor, "B N C h w"]:
        """Encode frames into normalised posterior means; see `Tokenizer.encode`."""
        self.check_frames(frames)
        pixels = to_pixels(rearrange(frames, "B (N F) H W c -> (B N) F H W c", F=self.frames_per_latent))
        mean, _ = self.posterior(pixels.to(self._dtype))
        return rearrange(self.normalised(mean), "(B N) C h w -> B N C h w", B=frames.shape[0]).contiguous()

    def normalised(self, means: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """Posterior means in units of the stored statistics: latents."""
        return (means - self.latent_mean.float()[:, None, None]) / self.latent_std.float()[:, None, None]

    def decode(self, latents: Float32[Tensor, "B N C h w"]) -> UInt8[Tensor, "B F H W 3"]:
        """Decode normalised latents into frames; see `Tokenizer.decode`."""
        self.check_latents(latents)
        x = rearrange(latents, "B N C h w -> (B N) C h w")
        x = x * self.latent_std.float()[:, None, None] + self.latent_mean.float()[:, None, None]
        pixels = self._decoded(x.to(self._dtype).contiguous(memory_format=torch.channels_last))
        frames = to_frames(pixels.float(), self.frames_per_latent)
        return rearrange(frames, "(B N) F H W c -> B (N F) H W c", B=latents.shape[0])

    def _decoded(self, x: Tensor) -> Tensor:
        """Run the decoder; its coarsest level always on two latents or more, since a CPU rounds one differently."""
        if x.shape[0] != 1 or x.device.type != "cpu":
            return self._with_shortcut("decoder", x, self.decoder(x))
        coarsest = 1 + self.config.decoder_depths[-1]
        doubled = torch.cat([x, x])
        pixels = self.decoder[coarsest:](self.decoder[:coarsest](doubled)[:1])
        return self._with_shortcut("decoder", doubled, pixels)

    def _with_shortcut(self, part: str, inputs: Tensor, outputs: Tensor) -> Tensor:
        """What "encoder" or "decoder" made, with its shortcut; inputs may have been doubled, see `_decoded`."""
        if self.shortcuts is None:
            return outputs
        return outputs + self.shortcuts[part](inputs)[: outputs.shape[0]]

    def encoding_state(self) -> dict[str, Tensor]:
        """All but the decoder; see `Tokenizer.encoding_state`."""
        return {name: value for name, value in self.state_dict().items() if "decoder." not in name}

    def set_statistics(self, mean: Float[Tensor, " C"], std: Float[Tensor, " C"]) -> None:
        """Store the channel means and standard deviations by which latents are normalised."""
        self.latent_mean.copy_(mean)
        self.latent_std.copy_(std)

    @property
    def last_weight(self) -> nn.Parameter:
        """Kernel of the decoder's last convolution."""
        *_, last = (layer for layer in self.decoder.modules() if isinstance(layer, nn.Conv2d))
        assert isinstance(last.weight, nn.Parameter)
        return last.weight

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.decoder.parameters()).dtype


def to_pixels(frames: UInt8[Tensor, "B F H W 3"]) -> Float32[Tensor, "B P H W"]:
    """Stack the frames of each block on the channel axis (P = 3 F), scaled from 0..255 to -1..1."""
    return rearrange(frames, "B F H W c -> B (F c) H W").float() / 127.5 - 1.0


def to_frames(pixels: Float32[Tensor, "B P H W"], num_frames: int) -> UInt8[Tensor, "B F H W 3"]:
    """Undo `to_pixels`: round and clip to 0..255."""
    frames = rearrange(pixels, "B (F c) H W -> B F H W c", F=num_frames)
    return ((frames + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8)
