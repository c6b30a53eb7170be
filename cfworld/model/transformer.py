"""The causal video transformer: Wan's DiT with its context passed in and its new keys and values passed out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cfworld.model.blocks import Block, Head, timestep_embedding
from cfworld.model.config import TransformerConfig
from cfworld.model.rope import rope_table
from cfworld.model.rows import by_full_rows

__all__ = ["ContextFunction", "Transformer", "TransformerOutput"]

ContextFunction = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(layer, new keys [B, N, n, H, d], new values) -> (rotated context keys [B, K, H, d], context values)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerOutput:
    """What one pass returns.

    Attributes:
        velocity: Predicted velocity eps - x0, [B, N, C, h, w], float32.
        keys: New keys of every layer, un-rotated, each [B, N, n, H, d].
        values: New values of every layer, each [B, N, n, H, d].
        features: Tokens after the last block, [B, N, n, D]: what the reward and hazard heads read.
    """

    velocity: Tensor
    keys: list[Tensor]
    values: list[Tensor]
    features: Tensor


class Transformer(nn.Module):
    """(x_sigma, sigma, prompts, context, positions) -> (velocity, new keys and values).

    The context is immutable inside the network: a block returns its new keys (before RoPE) and values, and
    committing them is the memory's job, outside autograd.

    Attributes:
        checkpointed: Whether a pass that is recorded keeps only what goes into each block, and computes the rest again
            in the backward pass (gradient checkpointing).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointed = False
        patch = config.in_channels * config.patch_size[0] * config.patch_size[1]
        self.patch_embedding = nn.Linear(patch, config.dim)
        self.prompt_embedding = nn.Linear(config.prompt_dim, config.dim)
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = Head(config)
        nn.init.zeros_(self.head.head.weight)
        nn.init.zeros_(self.head.head.bias)

    def forward(
        self,
        x: Float[Tensor, "B N C h w"],
        sigma: Float[Tensor, "B N"],
        prompts: Float[Tensor, "B N P E"],
        positions: Int[Tensor, "B N"],
        context_of: ContextFunction,
        mask: Bool[Tensor, "B 1 q k"] | None = None,
    ) -> TransformerOutput:
        """Predict the velocity of the current latents.

        Args:
            x: Noisy latents (clean ones for the pass that writes keys and values).
            sigma: Noise level of each latent, 1 noise to 0 data.
            prompts: Prompt tokens of each latent.
            positions: Bounded temporal position of each latent.
            context_of: Gives each layer its rotated context keys and its context values.
            mask: True where a query token may look: [B, 1, N n or 1, K + N n].

        Returns:
            Velocity, new keys and values, and the last features.
        """
        config = self.config
        ph, pw = config.patch_size
        rows, columns = config.grid
        tokens = self.patch_embedding(rearrange(x, "B N C (r ph) (c pw) -> B N (r c) (ph pw C)", ph=ph, pw=pw))
        time, time_6 = self.embed_time(sigma)
        prompt_tokens = self.prompt_embedding(prompts)
        rope = rope_table(positions, config.grid, config.head_dim, config.rope_theta)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            tokens, k, v = self._through(
                block, tokens, time_6, prompt_tokens, rope, lambda k, v, layer=layer: context_of(layer, k, v), mask
            )
            keys.append(k)
            values.append(v)
        patches = self.head(tokens, time)
        velocity = rearrange(patches, "B N (r c) (ph pw C) -> B N C (r ph) (c pw)", r=rows, c=columns, ph=ph, pw=pw)
        return TransformerOutput(velocity=velocity.float(), keys=keys, values=values, features=tokens)

    def _through(self, block: nn.Module, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        if not (self.checkpointed and torch.is_grad_enabled()):
            return block(*inputs)
        outputs: Any = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return outputs

    def embed_time(self, sigma: Float[Tensor, "B N"]) -> tuple[Float[Tensor, "B N D"], Float[Tensor, "B N 6 D"]]:
        """Embed noise levels; see `by_full_rows`."""
        embedding = timestep_embedding(sigma, self.config.freq_dim).flatten(0, 1)
        time = by_full_rows(self.time_embedding, embedding.to(self.patch_embedding.weight.dtype))
        time_6 = by_full_rows(self.time_projection, time).unflatten(-1, (6, self.config.dim))
        return time.float().unflatten(0, sigma.shape), time_6.float().unflatten(0, sigma.shape)
