"""Reward and hazard, read from the features of the clean pass."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cfworld.model.config import TransformerConfig
from cfworld.rows import Linear, by_full_rows

__all__ = ["Heads", "NoHeads"]


class Heads(nn.Module):
    """Two small networks over the tokens of a latent: one reward and one ending hazard for each of its frames."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.reward = _FrameHead(config)
        self.hazard = _FrameHead(config)
        nn.init.constant_(self.hazard.out.bias, -5.0)

    def forward(self, features: Float[Tensor, "B N n D"]) -> tuple[Float[Tensor, "B N f"], Float[Tensor, "B N f"]]:
        """Reward of every frame, and the logit of the probability that the episode ends at it, in float32."""
        return self.reward(features), self.hazard(features)


class NoHeads(nn.Module):
    """What stands for the heads of a world that has none: no reward, and no end."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.frames_per_latent = config.frames_per_latent

    def forward(self, features: Float[Tensor, "B N n D"]) -> tuple[Float[Tensor, "B N f"], Float[Tensor, "B N f"]]:
        """Zeros, and logits of probability 0, in float32."""
        reward = torch.zeros(*features.shape[:2], self.frames_per_latent, device=features.device)
        return reward, torch.full_like(reward, -torch.inf)


class _FrameHead(nn.Module):
    """Tokens -> hidden -> mean over tokens -> hidden -> one number a frame."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.token = Linear(config.dim, config.dim)
        self.pooled = Linear(config.dim, config.dim)
        self.out = Linear(config.dim, config.frames_per_latent)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        tokens = F.silu(self.token(F.layer_norm(features, features.shape[-1:])))
        pooled = tokens.mean(dim=-2).flatten(0, 1)
        return by_full_rows(self._frames, pooled).float().unflatten(0, features.shape[:2])

    def _frames(self, pooled: Tensor) -> Tensor:
        return self.out(F.silu(self.pooled(pooled)))
