"""Wan's causal video VAE, diffusers' `AutoencoderKLWan`, with the state of its decoder as a value.

Every causal convolution of the decoder looks two frames back. Those frames are what `decode_next` hands on: zeros stand
where there was nothing yet, as the convolutions pad.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float32, UInt8
from torch import Tensor

from cfworld.errors import ConfigError, MissingDependencyError
from cfworld.settings import check_counts
from cfworld.tokenizer.wan_latents import (
    FRAMES_PER_LATENT,
    WanLatents,
    WanLatentsConfig,
    first_held,
    from_first,
)

__all__ = ["WanVAE", "WanVAEConfig"]

LOOK_BACK = 2
"""Frames that a causal convolution of width three remembers."""

_MEAN = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
_MEAN += (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
_STD = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
_STD += (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)


@dataclass(kw_only=True, slots=True)
class WanVAEConfig(WanLatentsConfig):
    """Sizes of Wan's VAE; the defaults are those of Wan 2.1.

    Attributes:
        resolution: Height and width of a frame, multiples of 2 ** (len(dim_mult) - 1). Empty: a world has no such VAE.
        base_dim: Narrowest width.
        z_dim: Channels of a latent.
        dim_mult: Width at each level, in multiples of `base_dim`.
        num_res_blocks: Residual blocks at each level.
        temperal_downsample: Which levels halve time too: two of them.
        latents_mean: Mean of each channel of the raw latents.
        latents_std: Their standard deviations.
    """

    base_dim: int = 96
    dim_mult: list[int] = field(default_factory=lambda: [1, 2, 4, 4])
    num_res_blocks: int = 2
    temperal_downsample: list[bool] = field(default_factory=lambda: [False, True, True])
    latents_mean: list[float] = field(default_factory=lambda: list(_MEAN))
    latents_std: list[float] = field(default_factory=lambda: list(_STD))

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together."""
        if {len(self.latents_mean), len(self.latents_std)} != {self.z_dim}:
            raise ConfigError(
                f"got {len(self.latents_mean)} means and {len(self.latents_std)} deviations of latents; expected one "
                f"for each of {self.z_dim} channels."
            )
        if not all(map(math.isfinite, self.latents_mean)) or not all(0 < std < math.inf for std in self.latents_std):
            raise ConfigError(
                f"got latents_mean {self.latents_mean} and latents_std {self.latents_std}; expected finite numbers, "
                "deviations above 0."
            )
        check_counts(self, "base_dim", "num_res_blocks")
        if sum(self.temperal_downsample) != 2 or len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise ConfigError(
                f"got temperal_downsample {self.temperal_downsample} for {len(self.dim_mult)} levels; expected one "
                f"switch between each two levels, two of them on: a latent has {FRAMES_PER_LATENT} frames."
            )
        self.check_resolution()

    @property
    def spatial(self) -> int:
        """Pixels of a frame's side to one of a latent's."""
        return 2 ** (len(self.dim_mult) - 1)

    def build(self) -> "WanVAE":
        """The tokenizer of these sizes, with random weights."""
        return WanVAE(self)


class WanVAE(WanLatents):
    """Frames to latents and back by `AutoencoderKLWan`, row by row: no row's bits depend on another.

    Raises:
        MissingDependencyError: If diffusers is not installed.
    """

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__(config)
        self.config = config
        sizes: dict[str, Any] = {name: value for name, value in asdict(config).items() if name != "resolution"}
        self.vae = _autoencoder()(**sizes, scale_factor_spatial=config.spatial)
        self._num_caches = sum(type(m).__name__ == "WanCausalConv3d" for m in self.vae.decoder.modules())
        for name, values in (("latents_mean", config.latents_mean), ("latents_std", config.latents_std)):
            self.register_buffer(name, torch.tensor(values)[None, :, None, None, None], persistent=False)

    latents_mean: Tensor
    latents_std: Tensor

    def encode(self, frames: UInt8[Tensor, "B F H W 3"]) -> Float32[Tensor, "B N C h w"]:
        """Encode videos from their beginning; see `Tokenizer.encode`."""
        self.check_frames(frames)
        pixels = rearrange(from_first(frames), "B F H W c -> B c F H W")
        raw = torch.cat([self.vae.encode(self._scaled(row)).latent_dist.mode().float() for row in pixels.split(1)])
        return rearrange((raw - self.latents_mean) / self.latents_std, "B C N h w -> B N C h w")

    def decode_next(
        self, latents: Float32[Tensor, "B N C h w"], stream: Mapping[str, Tensor] | None
    ) -> tuple[UInt8[Tensor, "B F H W 3"], dict[str, Tensor]]:
        """Decode what follows; see `Tokenizer.decode_next`."""
        self.check_latents(latents)
        raw = rearrange(latents, "B N C h w -> B C N h w") * self.latents_std + self.latents_mean
        raw = raw.to(next(self.vae.parameters()).dtype)
        rows = [
            self._decoded_row(
                raw[row : row + 1], None if stream is None else [c[row : row + 1] for c in stream.values()]
            )
            for row in range(len(raw))
        ]
        frames = torch.cat([shown for shown, _ in rows])
        kept = zip(*(kept for _, kept in rows), strict=True)
        return frames, {f"cache{index:02d}": torch.cat(of_rows) for index, of_rows in enumerate(kept)}

    def _decoded_row(self, raw: Tensor, caches: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Frames [1, F, H, W, 3] of one row's raw latents [1, C, N, h, w], and the caches after them."""
        is_first = caches is None
        kept: list[Any] = [*(caches or []), *[None] * (self._num_caches - len(caches or []))]
        decoded = []
        for latent in self.vae.post_quant_conv(raw).split(1, dim=2):
            decoded.append(
                self.vae.decoder(latent, feat_cache=kept, feat_idx=[0], first_chunk=is_first and not decoded)
            )
        pixels = rearrange(torch.cat(decoded, dim=2).float(), "B c F H W -> B F H W c")
        frames = ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return first_held(frames) if is_first else frames, _whole_caches(kept)

    def _scaled(self, pixels: Tensor) -> Tensor:
        return (pixels.float() / 127.5 - 1).to(next(self.vae.parameters()).dtype)


def _whole_caches(kept: list[Any]) -> list[Tensor]:
    """What the decoder's convolutions have left, each as two frames.

    After a single latent there is one frame yet, and before a convolution that doubles time only a word that says so:
    the padding zeros stand for what is missing.
    """
    whole: list[Tensor] = []
    for cache in kept:
        if cache is None:  # a place too many: convolutions of width one remember nothing
            continue
        if isinstance(cache, str):  # its input is as large as that of the convolution before it
            whole.append(torch.zeros_like(whole[-1]))
        else:
            missing = cache.new_zeros(cache.shape[0], cache.shape[1], LOOK_BACK - cache.shape[2], *cache.shape[3:])
            whole.append(torch.cat([missing, cache], dim=2))
    return whole


def _autoencoder() -> type:
    try:
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
    except ImportError as error:
        raise MissingDependencyError.with_hint("Wan's VAE", "diffusers", "wan") from error
    return AutoencoderKLWan
