"""The causal video transformer: Wan's DiT with its context passed in and its new keys and values passed out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cfworld.model.attention_backends import AttentionBackend, AttentionMask, chosen_backend, flex_mask
from cfworld.model.blocks import Block, Head, timestep_embedding
from cfworld.model.config import TransformerConfig
from cfworld.model.rope import rope_table
from cfworld.rows import Linear, by_full_rows

__all__ = ["ContextFunction", "PromptKeys", "TimeEmbedding", "Transformer", "TransformerOutput"]

ContextFunction = Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(layer, new keys [B, N, n, H, d], new values) -> (rotated context keys [B, K, H, d], context values)."""

Rope = tuple[Tensor, Tensor]
"""Cosine and sine tables of `rope_table`."""


@dataclass(frozen=True, slots=True)
class TimeEmbedding:
    """Noise levels as the blocks and the output head take them: a schedule that stays the same is embedded once.

    Attributes:
        time: For the head, [B, N, D] float32.
        time_6: For the blocks, [B, N, 6, D] float32.
        gain: Of the noisy numbers of a patch that skip the blocks, [B, N, P] float32; None where none do.
    """

    time: Tensor
    time_6: Tensor
    gain: Tensor | None = None

    def levels(self, rows: int, latents: int) -> "list[TimeEmbedding]":
        """Of a schedule's levels, [1, T], one embedding each, [rows, latents]."""
        gains = [None] * self.time.shape[1] if self.gain is None else self.gain[0]
        return [
            TimeEmbedding(
                one.expand(rows, latents, -1),
                six.expand(rows, latents, -1, -1),
                None if gain is None else gain.expand(rows, latents, -1),
            )
            for one, six, gain in zip(self.time[0], self.time_6[0], gains, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class PromptKeys:
    """Prompt tokens as the blocks take them: every pass over a chunk has the same.

    Attributes:
        keys: Keys of every layer, each [B, N, P, H, d].
        values: Values of every layer, each [B, N, P, H, d].
    """

    keys: list[Tensor]
    values: list[Tensor]

    def for_latents(self, num_latents: int) -> "PromptKeys":
        """Those of one latent's prompt, for as many latents."""
        keys, values = ([part.expand(-1, num_latents, -1, -1, -1) for part in of] for of in (self.keys, self.values))
        return PromptKeys(keys, values)


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
        exact_weights: What told its generator's weights from others before layers were rounded to 8 bits, as a world
            notes it; None as long as they are exact.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointed = False
        self.exact_weights: str | None = None
        self._attention = AttentionBackend.TORCH
        patch = config.in_channels * config.patch_size[0] * config.patch_size[1]
        self.patch_embedding = Linear(patch, config.dim)
        self.prompt_embedding = _prompt_embedding(config)
        self.time_embedding = nn.Sequential(
            Linear(config.freq_dim, config.dim), nn.SiLU(), Linear(config.dim, config.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = Head(config)

    def forward(
        self,
        x: Float[Tensor, "B N C h w"],
        sigma: Float[Tensor, "B N"] | TimeEmbedding,
        prompts: Float[Tensor, "B N P E"] | PromptKeys,
        positions: Int[Tensor, "B N"] | Rope,
        context_of: ContextFunction,
        mask: AttentionMask | None = None,
    ) -> TransformerOutput:
        """Predict the velocity of the current latents.

        Args:
            x: Noisy latents (clean ones for the pass that writes keys and values).
            sigma: Noise level of each latent, 1 noise to 0 data; or what `embed_time` made of it.
            prompts: Prompt tokens of each latent; or what `embed_prompts` made of them.
            positions: Bounded temporal position of each latent; or what `rotation` made of it.
            context_of: Gives each layer its rotated context keys and its context values.
            mask: True where a query token may look: [B, 1, N n or 1, K + N n]; or what the attention backend takes.

        Returns:
            Velocity, new keys and values, and the last features.
        """
        config = self.config
        ph, pw = config.patch_size
        rows, columns = config.grid
        noisy = rearrange(x, "B N C (r ph) (c pw) -> B N (r c) (ph pw C)", ph=ph, pw=pw)
        tokens = self.patch_embedding(noisy)
        time = sigma if isinstance(sigma, TimeEmbedding) else self.embed_time(sigma)
        given = prompts if isinstance(prompts, PromptKeys) else self.embed_prompts(prompts)
        rope = self.rotation(positions) if isinstance(positions, Tensor) else positions
        mask = self.prepared(mask, tokens.shape[1])
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            prompt = given.keys[layer], given.values[layer]
            tokens, k, v = self._through(
                block, tokens, time.time_6, prompt, rope, lambda k, v, layer=layer: context_of(layer, k, v), mask
            )
            keys.append(k)
            values.append(v)
        patches = self.head(tokens, time.time)
        if time.gain is not None:
            patches = patches + time.gain[..., None, :] * noisy
        velocity = rearrange(patches, "B N (r c) (ph pw C) -> B N C (r ph) (c pw)", r=rows, c=columns, ph=ph, pw=pw)
        return TransformerOutput(velocity=velocity, keys=keys, values=values, features=tokens)

    def embed_time(self, sigma: Float[Tensor, "B N"]) -> TimeEmbedding:
        """Embed noise levels; see `by_full_rows`."""
        embedding = timestep_embedding(sigma, self.config.freq_dim).flatten(0, 1)
        time = by_full_rows(self.time_embedding, embedding.to(self.patch_embedding.weight.dtype))
        time_6 = by_full_rows(self.time_projection, time).unflatten(-1, (6, self.config.dim))
        embedded = TimeEmbedding(time.float().unflatten(0, sigma.shape), time_6.float().unflatten(0, sigma.shape))
        skip = self.head.skip
        if skip is None:
            return embedded
        gain = by_full_rows(lambda rows: skip(functional.silu(rows)), time)
        return replace(embedded, gain=gain.float().unflatten(0, sigma.shape))

    def embed_prompts(self, prompts: Float[Tensor, "B N P E"]) -> PromptKeys:
        """Keys and values of prompt tokens in every layer's cross-attention."""
        tokens = self.prompt_embedding(prompts)
        parts = [block.cross_attn.project(tokens) for block in self._blocks()]
        return PromptKeys([keys for keys, _ in parts], [values for _, values in parts])

    def rotation(self, positions: Int[Tensor, "*batch"]) -> Rope:
        """Tables that rotate the queries and keys of latents at these positions."""
        config = self.config
        return rope_table(positions, config.grid, config.head_dim, config.rope_theta)

    @property
    def attention(self) -> AttentionBackend:
        """Who computes self-attention."""
        return self._attention

    def use_attention(self, backend: AttentionBackend | str) -> None:
        """Compute self-attention by another backend from now on; where the weights lie, and in their type.

        Raises:
            ConfigError: If there is no such backend, or it cannot run there.
        """
        weight = self.patch_embedding.weight
        self._attention = chosen_backend(backend, weight.device, weight.dtype, self.config.head_dim)
        for block in self._blocks():
            block.self_attn.backend = self._attention

    def prepared(self, mask: AttentionMask | None, num_latents: int) -> AttentionMask | None:
        """A mask of these latents as the backend takes it, so that the layers and the passes need not make it."""
        if self._attention is AttentionBackend.FLEX and isinstance(mask, Tensor):
            return flex_mask(mask, num_latents * self.config.tokens_per_latent)
        return mask

    def _blocks(self) -> Iterator[Block]:
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block

    def _through(self, block: nn.Module, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        if not (self.checkpointed and torch.is_grad_enabled()):
            return block(*inputs)
        outputs: Any = checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)
        return outputs


def _prompt_embedding(config: TransformerConfig) -> nn.Module:
    first = Linear(config.prompt_dim, config.dim)
    if config.prompt_layers == 1:
        return first
    return nn.Sequential(first, nn.GELU(approximate="tanh"), Linear(config.dim, config.dim))
