"""The tokenizer's critic: whether a block of frames is real, by its grain and by what ought to be where.

Shapes: B blocks, P = 3 F frames and colours, C latent channels, D features, p q places of a map of logits.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from cfworld.train.reconstruction.frame_errors import detail

__all__ = ["DetailCritic", "Judgement"]

DETAIL_GAIN = 6.0
"""How much the critic's view of the detail is enlarged: grain is some percent of what pixels span."""


class Judgement(NamedTuple):
    """What the critic finds in blocks.

    Attributes:
        logits: Maps [B, 1, p, q] for patches of about 10 and of about 40 pixels; above 0 means real.
        features: What they were found by, [B, D, p, q] each.
    """

    logits: list[Tensor]
    features: list[Tensor]


class DetailCritic(nn.Module):
    """Judges whether patches of a block of frames are real, at two scales.

    It sees the frames beside their detail, enlarged, since a blurred wall is told from a sharp one by a few percent of
    the pixels' range. The coarser judgement knows the latents, and so what ought to be where. Features are not
    normalised, which would take contrast away; kernels are, spectrally (Miyato et al., arXiv 1802.05957), since a
    critic that is sure of all patches teaches nothing.

    Args:
        channels: Frames and colours P of a block.
        latent_channels: Channels of a latent.
        width: Feature channels at half the resolution.
    """

    def __init__(self, channels: int, latent_channels: int, width: int = 48) -> None:
        super().__init__()
        self.fine = nn.ModuleList(
            [
                _conv(8 * channels, width, 3),
                _conv(width, 2 * width, 4, stride=2),
                _conv(2 * width, 2 * width, 3),
            ]
        )
        self.judge_fine = _conv(2 * width, 1, 3)
        self.coarse = _conv(2 * width, 3 * width, 4, stride=2)
        self.beside = _conv(3 * width + latent_channels, 3 * width, 3)
        self.judge_coarse = _conv(3 * width, 1, 3)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, pixels: Float[Tensor, "B P H W"], latents: Float[Tensor, "B C h w"]) -> Judgement:
        """Judge every patch of blocks whose latents are known, in the units of `BlockVAE.normalised`.

        A tokenizer that has not been exported yet has no statistics, and its latents keep their scale.
        """
        x = torch.cat([pixels, DETAIL_GAIN * detail(pixels)], dim=1)
        x = functional.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)
        features: list[Tensor] = []
        for layer in self.fine:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        coarse = functional.leaky_relu(self.coarse(x), 0.2)
        features.append(coarse)
        known = functional.interpolate(latents.to(coarse.dtype), size=coarse.shape[-2:])
        beside = functional.leaky_relu(self.beside(torch.cat([coarse, known], dim=1)), 0.2)
        return Judgement([self.judge_fine(x).float(), self.judge_coarse(beside).float()], features)


def _conv(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(in_channels, out_channels, size, stride=stride, padding=1))
