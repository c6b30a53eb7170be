"""The transformer block and the output head, modulated by each latent's own noise level (Wan)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cfworld.model.attention import CrossAttention, SelfAttention
from cfworld.model.config import TransformerConfig
from cfworld.rows import Linear

__all__ = ["Block", "Head", "modulate", "timestep_embedding"]


def timestep_embedding(sigma: Float[Tensor, "B N"], dim: int) -> Float[Tensor, "B N {dim}"]:
    """Sinusoidal embedding of t = 1000 sigma, cosines first, base 10,000."""
    frequencies = 10_000 ** (-torch.arange(dim // 2, device=sigma.device, dtype=torch.float64) / (dim // 2))
    angles = 1000 * sigma.to(torch.float64)[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Affine modulation x (1 + scale) + shift."""
    return x * (1 + scale) + shift


class Block(nn.Module):
    """Self-attention, cross-attention and feed-forward; the first and last are gated by the noise level."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        dim, eps = config.dim, config.eps
        self.dim, self.eps = dim, eps
        self.self_attn = SelfAttention(dim, config.num_heads, eps)
        self.norm3 = nn.LayerNorm(dim, eps=eps)
        self.cross_attn = CrossAttention(dim, config.num_heads, eps)
        self.ffn = nn.Sequential(Linear(dim, config.ffn_dim), nn.GELU(approximate="tanh"), Linear(config.ffn_dim, dim))
        self.modulation = nn.Parameter(torch.randn(6, dim) / dim**0.5)

    def forward(self, x, time_BN6D, prompts, rope, context_of, mask):
        """One block.

        Args:
            x: Tokens [B, N, n, D].
            time_BN6D: Projected timestep embedding [B, N, 6, D].
            prompts: Keys and values of the prompt tokens in this block, [B, N, P, H, d] each.
            rope: Tables of the current latents.
            context_of: Function of the block's new keys and values, giving the context keys (rotated) and values.
            mask: See `SelfAttention`.

        Returns:
            Tokens [B, N, n, D], and the new keys (un-rotated) and values [B, N, n, H, d].
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            (self.modulation + time_BN6D).to(x.dtype).unsqueeze(-3).unbind(-2)
        )
        q, k, v = self.self_attn.project(modulate(self._norm(x), shift1, scale1))
        x = x + gate1 * self.self_attn(q, k, v, rope, context_of(k, v), mask)
        x = x + self.cross_attn(self.norm3(x), prompts)
        x = x + gate2 * self.ffn(modulate(self._norm(x), shift2, scale2))
        return x, k, v

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.dim,), eps=self.eps)


class Head(nn.Module):
    """The modulated projection from tokens to the velocity of a patch."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.dim, self.eps = config.dim, config.eps
        self.head = Linear(config.dim, config.in_channels * config.patch_size[0] * config.patch_size[1])
        self.modulation = nn.Parameter(torch.randn(2, config.dim) / config.dim**0.5)
        self.skip = Linear(config.dim, self.head.out_features) if config.input_skip else None
        for layer in filter(None, (self.head, self.skip)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_BNnD: Float[Tensor, "B N n D"], time_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B N n P"]:
        """Velocity patches, P = ph * pw * C with the channel fastest, float32, without what skips the blocks."""
        shift, scale = (self.modulation + time_BND[..., None, :]).to(x_BNnD.dtype).unsqueeze(-3).unbind(-2)
        return self.head(modulate(F.layer_norm(x_BNnD, (self.dim,), eps=self.eps), shift, scale)).float()
