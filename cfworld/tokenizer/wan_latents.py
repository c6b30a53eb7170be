"""What the tokenizers of Wan's latents share: four frames a latent, of which the first of a video holds one.

Wan puts the first frame of a video into a latent by itself, and four into each later one. Here every latent has four
frames: the first one's is shown four times, and of four frames that begin a video the last is the one that is encoded.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.tokenizer.base import Tokenizer

__all__ = ["FRAMES_PER_LATENT", "WanLatents", "WanLatentsConfig", "first_held", "from_first"]

FRAMES_PER_LATENT = 4


@dataclass(kw_only=True, slots=True)
class WanLatentsConfig:
    """What is configured of every one of them.

    Attributes:
        resolution: Height and width of a frame, multiples of `spatial`. Empty: a world has no such tokenizer.
        z_dim: Channels of a latent.
    """

    resolution: list[int] = field(default_factory=list)
    z_dim: int = 16

    def check_resolution(self) -> None:
        """Refuse frames that do not divide into latents.

        Raises:
            ConfigError: If they do not.
        """
        if self.resolution and (len(self.resolution) != 2 or any(s < 1 or s % self.spatial for s in self.resolution)):
            raise ConfigError(
                f"got resolution {self.resolution}; expected height and width, multiples of {self.spatial}."
            )

    @property
    def spatial(self) -> int:
        """Pixels of a frame's side to one of a latent's."""
        raise NotImplementedError

    @property
    def frames_per_latent(self) -> int:
        """Frames in one latent."""
        return FRAMES_PER_LATENT

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        height, width = self.resolution
        return self.z_dim, height // self.spatial, width // self.spatial


class WanLatents(Tokenizer):
    """Frames to latents and back, row by row: no row's bits depend on another."""

    streams = True

    def __init__(self, config: WanLatentsConfig) -> None:
        super().__init__()
        self._sizes = config

    @property
    def frames_per_latent(self) -> int:
        """Frames that one latent holds."""
        return FRAMES_PER_LATENT

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""
        height, width = self._sizes.resolution
        return height, width

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a latent."""
        return self._sizes.latent_shape

    def decode(self, latents: Float32[Tensor, "B N C h w"]) -> UInt8[Tensor, "B F H W 3"]:
        """Decode videos from their beginning; see `Tokenizer.decode`."""
        return self.decode_next(latents, None)[0]


def from_first(frames: UInt8[Tensor, "B F H W 3"]) -> UInt8[Tensor, "B G H W 3"]:
    """The frames of a video that are encoded: of the first four the last, and all later ones."""
    return frames[:, FRAMES_PER_LATENT - 1 :]


def first_held(frames: UInt8[Tensor, "B G H W 3"]) -> UInt8[Tensor, "B F H W 3"]:
    """The frames of a video from its beginning, the first one held for as long as a latent lasts."""
    return torch.cat([frames[:, :1].expand(-1, FRAMES_PER_LATENT - 1, -1, -1, -1), frames], dim=1)
