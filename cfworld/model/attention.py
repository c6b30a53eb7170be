"""Attention over a context that is passed in, with RMS-normalised queries and keys (Wan's blocks).

Shape suffixes: B rows (or row-and-chunk groups in training), N latents, n tokens a latent, K context tokens,
P prompt tokens, H heads, d head width, D = H d.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cfworld.model.rope import apply_rope

__all__ = ["CrossAttention", "SelfAttention"]


class SelfAttention(nn.Module):
    """Self-attention of the current latents over context keys and values and over themselves."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)

    def project(
        self, x_BNnD: Float[Tensor, "B N n D"]
    ) -> tuple[Float[Tensor, "B N n H d"], Float[Tensor, "B N n H d"], Float[Tensor, "B N n H d"]]:
        """Queries, keys and values before rotation; q and k are normalised over all channels, then split."""
        heads = (self.num_heads, -1)
        q = self.norm_q(self.q(x_BNnD)).unflatten(-1, heads)
        k = self.norm_k(self.k(x_BNnD)).unflatten(-1, heads)
        return q, k, self.v(x_BNnD).unflatten(-1, heads)

    def forward(
        self,
        q_BNnHd: Float[Tensor, "B N n H d"],
        k_BNnHd: Float[Tensor, "B N n H d"],
        v_BNnHd: Float[Tensor, "B N n H d"],
        rope: tuple[Tensor, Tensor],
        context: tuple[Float[Tensor, "B K H d"], Float[Tensor, "B K H d"]],
        mask: Bool[Tensor, "B 1 q k"] | None,
    ) -> Float[Tensor, "B N n D"]:
        """Attend and project back.

        Args:
            q_BNnHd: Queries of the current latents, un-rotated.
            k_BNnHd: Keys of the current latents, un-rotated.
            v_BNnHd: Values of the current latents.
            rope: Cosine and sine tables of the current latents.
            context: Rotated keys, and values, of the context tokens.
            mask: True where a query may look; keys are ordered context first, then current. None: everywhere.
        """
        num_latents = q_BNnHd.shape[1]
        q = rearrange(apply_rope(q_BNnHd, *rope), "B N n H d -> B H (N n) d")
        k = rearrange(apply_rope(k_BNnHd, *rope), "B N n H d -> B (N n) H d")
        v = rearrange(v_BNnHd, "B N n H d -> B (N n) H d")
        k = torch.cat([context[0].to(k.dtype), k], dim=1).transpose(1, 2)
        v = torch.cat([context[1].to(v.dtype), v], dim=1).transpose(1, 2)
        y = _attend(q, k, v, mask)
        return self.o(rearrange(y, "B H (N n) d -> B N n (H d)", N=num_latents))


class CrossAttention(nn.Module):
    """Cross-attention of every latent to its own prompt tokens."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.o = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)

    def forward(
        self, x_BNnD: Float[Tensor, "B N n D"], prompts_BNPD: Float[Tensor, "B N P D"]
    ) -> Float[Tensor, "B N n D"]:
        """Attend to the prompts, unmasked and without positions."""
        q = rearrange(self.norm_q(self.q(x_BNnD)), "B N n (H d) -> (B N) H n d", H=self.num_heads)
        k = rearrange(self.norm_k(self.k(prompts_BNPD)), "B N P (H d) -> (B N) H P d", H=self.num_heads)
        v = rearrange(self.v(prompts_BNPD), "B N P (H d) -> (B N) H P d", H=self.num_heads)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.o(rearrange(y, "(B N) H n d -> B N n (H d)", B=x_BNnD.shape[0]))


def _attend(
    q: Float[Tensor, "B H q d"],
    k: Float[Tensor, "B H k d"],
    v: Float[Tensor, "B H k d"],
    mask: Bool[Tensor, "#B 1 #q k"] | None,
) -> Float[Tensor, "B H q d"]:
    """Softmax attention; written out where a CPU learns, since its fused kernel's backward pass is slow."""
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v
