"""Attention over a context that is passed in, with RMS-normalised queries and keys (Wan's blocks).

Shape suffixes: B rows (or row-and-chunk groups in training), N latents, n tokens a latent, K context tokens,
P prompt tokens, H heads, d head width, D = H d.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from cfworld.model.attention_backends import AttentionBackend, AttentionMask, KeyLengths, attend
from cfworld.model.rope import apply_rope
from cfworld.rows import Linear

__all__ = ["CrossAttention", "SelfAttention"]


class SelfAttention(nn.Module):
    """Self-attention of the current latents over context keys and values and over themselves."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.backend = AttentionBackend.TORCH
        self.q = Linear(dim, dim)
        self.k = Linear(dim, dim)
        self.v = Linear(dim, dim)
        self.o = Linear(dim, dim)
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
        mask: AttentionMask | None,
    ) -> Float[Tensor, "B N n D"]:
        """Attend and project back.

        Args:
            q_BNnHd: Queries of the current latents, un-rotated.
            k_BNnHd: Keys of the current latents, un-rotated.
            v_BNnHd: Values of the current latents.
            rope: Cosine and sine tables of the current latents.
            context: Rotated keys, and values, of the context tokens.
            mask: Who sees what of the keys, which are ordered context first, then current. None: everybody everything.
        """
        num_latents = q_BNnHd.shape[1]
        q = apply_rope(q_BNnHd, *rope).flatten(1, 2)
        k = apply_rope(k_BNnHd, *rope).flatten(1, 2)
        v = v_BNnHd.flatten(1, 2)
        context_first = not isinstance(mask, KeyLengths)
        k, v = (
            torch.cat([old.to(new.dtype), new] if context_first else [new, old.to(new.dtype)], dim=1)
            for old, new in zip(context, (k, v), strict=True)
        )
        y = attend(q, k, v, mask, self.backend)
        return self.o(rearrange(y, "B (N n) H d -> B N n (H d)", N=num_latents))


class CrossAttention(nn.Module):
    """Cross-attention of every latent to its own prompt tokens."""

    def __init__(self, dim: int, num_heads: int, eps: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = Linear(dim, dim)
        self.k = Linear(dim, dim)
        self.v = Linear(dim, dim)
        self.o = Linear(dim, dim)
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)

    def project(
        self, prompts_BNPD: Float[Tensor, "B N P D"]
    ) -> tuple[Float[Tensor, "B N P H d"], Float[Tensor, "B N P H d"]]:
        """Keys and values of prompt tokens: the same for every pass over a chunk."""
        heads = (self.num_heads, -1)
        return self.norm_k(self.k(prompts_BNPD)).unflatten(-1, heads), self.v(prompts_BNPD).unflatten(-1, heads)

    def forward(
        self,
        x_BNnD: Float[Tensor, "B N n D"],
        prompts: tuple[Float[Tensor, "B N P H d"], Float[Tensor, "B N P H d"]],
    ) -> Float[Tensor, "B N n D"]:
        """Attend to the prompts' keys and values, unmasked and without positions."""
        q = rearrange(self.norm_q(self.q(x_BNnD)), "B N n (H d) -> (B N) H n d", H=self.num_heads)
        k, v = (rearrange(part, "B N P H d -> (B N) H P d") for part in prompts)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.o(rearrange(y, "(B N) H n d -> B N n (H d)", B=x_BNnD.shape[0]))
