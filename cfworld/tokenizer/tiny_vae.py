"""A tiny video autoencoder in the layout of TAEHV files: small convolutions that show Wan's latents fast and roughly.

A block of it looks one frame back, so its decoder streams with one frame for each block. The places in its two
sequences are those of the published files, `encoder.12.conv.0.weight` and so on. Frames are taken and shown as in
`wan_latents`: the first latent has one, held for four; what the decoder makes before it is left out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from cfworld.errors import CheckpointError, ConfigError
from cfworld.tokenizer.wan_latents import (
    FRAMES_PER_LATENT,
    WanLatents,
    WanLatentsConfig,
    first_held,
    from_first,
)

__all__ = ["TinyVAE", "TinyVAEConfig", "tiny_sizes"]

BOUND = 3.0
"""Latents are squashed into -3 to 3."""


@dataclass(kw_only=True, slots=True)
class TinyVAEConfig(WanLatentsConfig):
    """Sizes of a tiny autoencoder.

    Attributes:
        resolution: Height and width of a frame, multiples of 8 * patch. Empty: the world has no such autoencoder.
        z_dim: Channels of a latent.
        width: Channels of the encoder.
        widths: Channels of the decoder at 1/8, 1/4, 1/2 and all of the resolution.
        patch: Height and width of the squares of pixels that are taken as channels.
    """

    width: int = 64
    widths: list[int] = field(default_factory=lambda: [256, 128, 64, 64])
    patch: int = 1

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        if len(self.widths) != 4 or min(self.z_dim, self.width, self.patch, *self.widths) < 1:
            raise ConfigError(f"a tiny VAE has four widths and sizes of 1 or more; got {self}.")
        self.check_resolution()

    @property
    def spatial(self) -> int:
        """Pixels of a frame's side to one of a latent's."""
        return 8 * self.patch

    def build(self) -> "TinyVAE":
        """The tokenizer of these sizes, with random weights."""
        return TinyVAE(self)


class TinyVAE(WanLatents):
    """Frames to latents and back, row by row: no row's bits depend on another."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__(config)
        self.config = config
        colours, width = 3 * config.patch**2, config.width
        self.encoder = nn.Sequential(
            _conv(colours, width),
            nn.ReLU(),
            *_halved(width, frames=2),
            *_halved(width, frames=2),
            *_halved(width, frames=1),
            _conv(width, config.z_dim),
        )
        first, second, third, last = config.widths
        self.decoder = nn.Sequential(
            _Squash(),
            _conv(config.z_dim, first),
            nn.ReLU(),
            *_doubled(first, second, frames=1),
            *_doubled(second, third, frames=2),
            *_doubled(third, last, frames=2),
            nn.ReLU(),
            _conv(last, colours),
        )

    def encode(self, frames: UInt8[Tensor, "B F H W 3"]) -> Float32[Tensor, "B N C h w"]:
        """Encode videos from their beginning; see `Tokenizer.encode`."""
        self.check_frames(frames)
        pixels = rearrange(from_first(frames), "B F H W c -> B F c H W")
        pixels = torch.cat([pixels, *[pixels[:, -1:]] * (FRAMES_PER_LATENT - 1)], dim=1)  # a whole last latent
        x = F.pixel_unshuffle((pixels.float() / 255).to(self._dtype), self.config.patch)
        return torch.stack([_run(self.encoder, row, None)[0] for row in x]).float()

    def decode_next(
        self, latents: Float32[Tensor, "B N C h w"], stream: Mapping[str, Tensor] | None
    ) -> tuple[UInt8[Tensor, "B F H W 3"], dict[str, Tensor]]:
        """Decode what follows; see `Tokenizer.decode_next`."""
        self.check_latents(latents)
        given = None if stream is None else [stream[name] for name in sorted(stream)]
        rows = [
            self._decoded_row(row, None if given is None else [past[index] for past in given])
            for index, row in enumerate(latents.to(self._dtype))
        ]
        pixels = F.pixel_shuffle(torch.stack([shown for shown, _ in rows]).float(), self.config.patch)
        frames = (rearrange(pixels, "B F c H W -> B F H W c").clamp(0, 1) * 255).round().to(torch.uint8)
        if stream is None:
            frames = first_held(from_first(frames))
        pasts = zip(*(kept for _, kept in rows), strict=True)
        return frames, {f"past{index}": torch.stack(of_rows) for index, of_rows in enumerate(pasts)}

    def _decoded_row(self, latents: Tensor, pasts: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Frames of one row's latents [N, C, h, w], each by itself so that no bit depends on how a video is cut."""
        decoded = []
        for latent in latents.split(1):
            frames, pasts = _run(self.decoder, latent, pasts)
            decoded.append(frames)
        assert pasts is not None
        return torch.cat(decoded), pasts

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype


def tiny_sizes(tensors: Mapping[str, Tensor], resolution: tuple[int, int], origin: str) -> TinyVAEConfig:
    """Sizes of a tiny autoencoder from the shapes of its tensors.

    Raises:
        CheckpointError: If those that tell the sizes are missing.
    """
    telling = ("encoder.0.weight", "decoder.1.weight", "decoder.8.weight", "decoder.14.weight", "decoder.20.weight")
    if missing := [name for name in telling if name not in tensors]:
        raise CheckpointError(f"{origin} holds no tiny VAE: missing {', '.join(missing)}.")
    encoder, *decoder = (tensors[name] for name in telling)
    return TinyVAEConfig(
        resolution=list(resolution),
        z_dim=decoder[0].shape[1],
        width=encoder.shape[0],
        widths=[layer.shape[0] for layer in decoder],
        patch=round((encoder.shape[1] / 3) ** 0.5),
    )


class _Squash(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / BOUND) * BOUND


class _Recall(nn.Module):
    """Three convolutions of a frame and the one before it, beside the frame itself."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _conv(2 * width, width), nn.ReLU(), _conv(width, width), nn.ReLU(), _conv(width, width)
        )

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        return F.relu(self.conv(torch.cat([x, past], dim=1)) + x)


class _FewerFrames(nn.Module):
    """Some consecutive frames into one."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(width * frames, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(rearrange(x, "(T f) c h w -> T (f c) h w", f=self.frames))


class _MoreFrames(nn.Module):
    """One frame into some consecutive ones."""

    def __init__(self, width: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.conv = nn.Conv2d(width, width * frames, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.conv(x), "T (f c) h w -> (T f) c h w", f=self.frames)


def _conv(before: int, after: int, *, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1, stride=stride, bias=bias)


def _halved(width: int, frames: int) -> list[nn.Module]:
    recalls = [_Recall(width) for _ in range(3)]
    return [_FewerFrames(width, frames), _conv(width, width, stride=2, bias=False), *recalls]


def _doubled(before: int, after: int, frames: int) -> list[nn.Module]:
    recalls = [_Recall(before) for _ in range(3)]
    return [*recalls, nn.Upsample(scale_factor=2), _MoreFrames(before, frames), _conv(before, after, bias=False)]


def _run(layers: nn.Sequential, x: Tensor, pasts: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
    """One row's frames [T, c, h, w] through a sequence; the last frame that came to each block that recalls."""
    kept: list[Tensor] = []
    for layer in layers:
        if isinstance(layer, _Recall):
            before = torch.zeros_like(x[0]) if pasts is None else pasts[len(kept)]
            kept.append(x[-1].clone())
            x = layer(x, torch.cat([before[None], x[:-1]]))
        else:
            x = layer(x)
    return x, kept
