"""What an agent makes of what it sees: small networks over latents or frames, for Stable-Baselines3's policies."""

from typing import Any

import torch
from gymnasium import spaces
from jaxtyping import Float
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

__all__ = ["FrameFeatures", "LatentFeatures"]


class LatentFeatures(BaseFeaturesExtractor):
    """A small convolutional network over latents, those of all remembered steps on the channel axis.

    Args:
        observation_space: a flat box of `stack` observations, each of whole latents.
        features_dim: numbers to give.
        latent_shape: channels, height and width of one latent.
        num_own: numbers behind the latents that say what the agent did last.
        width: channels of its layers.
    """

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int,
        latent_shape: tuple[int, int, int],
        num_own: int = 0,
        width: int = 32,
    ):
        super().__init__(observation_space, features_dim)
        channels, height, columns = latent_shape
        self._grid = (height, columns)
        self._num_own = num_own
        num_channels = (observation_space.shape[0] - num_own) // (height * columns)
        assert num_channels % channels == 0
        self.layers = nn.Sequential(
            nn.Conv2d(num_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.out = nn.Sequential(_linear_to(self.layers, (num_channels, *self._grid), features_dim, num_own), nn.ReLU())

    def forward(self, observations: Float[Tensor, "B n"]) -> Float[Tensor, "B d"]:
        """Features of observations."""
        latents, own = observations.tensor_split([observations.shape[1] - self._num_own], dim=1)
        return self.out(torch.cat([self.layers(latents.unflatten(1, (-1, *self._grid))), own], dim=1))


class FrameFeatures(BaseFeaturesExtractor):
    """A small convolutional network over frames, those of all remembered steps on the channel axis.

    Args:
        observation_space: a box [C, H, W]; what comes is divided by 255 already.
        features_dim: numbers to give.
        width: channels of its layers.
    """

    def __init__(self, observation_space: spaces.Box, features_dim: int, width: int = 32):
        super().__init__(observation_space, features_dim)
        shape = observation_space.shape
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], width, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.out = nn.Sequential(_linear_to(self.layers, shape, features_dim), nn.ReLU())

    def forward(self, observations: Float[Tensor, "B C H W"]) -> Float[Tensor, "B d"]:
        """Features of observations."""
        return self.out(self.layers(observations))


def _linear_to(layers: nn.Module, shape: Any, features_dim: int, num_own: int = 0) -> nn.Linear:
    with torch.no_grad():
        return nn.Linear(layers(torch.zeros(1, *shape)).shape[1] + num_own, features_dim)
