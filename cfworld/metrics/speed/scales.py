"""Worlds of a size: random weights, whose values no step's time depends on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.model import ActionConfig, Generator, TransformerConfig
from cfworld.prompts.discrete import DiscretePromptConfig, DiscretePrompts
from cfworld.rollout import SamplerConfig, Solver
from cfworld.settings import Choice
from cfworld.tokenizer import BlockVAEConfig, TinyVAEConfig, WanVAEConfig
from cfworld.world import EncodedStarts, Ends, World, WorldConfig
from cfworld.world.config import coder_fields

__all__ = [
    "Decoder",
    "RandomTable",
    "Scale",
    "Sizes",
    "check_scale",
    "memory_of",
    "random_world",
    "sizes_of",
    "use_memory",
]


class Scale(Choice):
    """How large a world."""

    TOY = "toy"
    """A miniature of wan_1_3b, for tests."""
    NANO = "nano"
    """The shipped worlds' size: 64x64 frames, a latent a chunk."""
    WAN_1_3B = "wan_1_3b"
    """Wan2.1-1.3B at 480x832, three latents a chunk, prompts of 512 tokens."""


class Decoder(Choice):
    """Who makes pixels."""

    BLOCK = "block"
    """The block VAE of the shipped worlds, latent by latent."""
    TINY = "tiny"
    """A tiny VAE in TAEHV's layout, which streams."""
    WAN = "wan"
    """Wan's causal VAE, which streams."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sizes:
    """What a scale means.

    Attributes:
        transformer: The transformer.
        decoders: Who may make pixels, and how large; the first by default.
        latents_per_chunk: Latents generated together.
        prompt_tokens: Tokens of each latent's prompt.
        fps: Frames per second of game time.
    """

    transformer: TransformerConfig
    decoders: Mapping[Decoder, BlockVAEConfig | TinyVAEConfig | WanVAEConfig]
    latents_per_chunk: int
    prompt_tokens: int
    fps: int


_ACTIONS = 4


def sizes_of(scale: Scale) -> Sizes:
    """The sizes of a scale."""
    match scale:
        case Scale.WAN_1_3B:
            transformer = TransformerConfig(
                in_channels=16, latent_size=[60, 104], dim=1536, depth=30, num_heads=12, ffn_dim=8960, prompt_dim=4096
            )
            decoders = {
                Decoder.WAN: WanVAEConfig(resolution=[480, 832]),
                Decoder.TINY: TinyVAEConfig(resolution=[480, 832]),
            }
            return Sizes(transformer=transformer, decoders=decoders, latents_per_chunk=3, prompt_tokens=512, fps=16)
        case Scale.NANO:
            transformer = TransformerConfig(dim=192, depth=6, num_heads=4, ffn_dim=768, prompt_dim=128)
            decoders = {Decoder.BLOCK: BlockVAEConfig()}
            return Sizes(transformer=transformer, decoders=decoders, latents_per_chunk=1, prompt_tokens=4, fps=35)
        case Scale.TOY:
            transformer = TransformerConfig(
                in_channels=4,
                latent_size=[4, 6],
                dim=24,
                depth=1,
                num_heads=2,
                ffn_dim=48,
                freq_dim=16,
                prompt_dim=16,
            )
            block = BlockVAEConfig(
                resolution=[32, 48],
                latent_channels=4,
                widths=[16, 16, 16],
                encoder_depths=[1, 1, 1],
                decoder_depths=[1, 1, 1],
            )
            decoders = {
                Decoder.BLOCK: block,
                Decoder.TINY: TinyVAEConfig(resolution=[32, 48], z_dim=4, width=8, widths=[8, 8, 8, 8]),
            }
            return Sizes(transformer=transformer, decoders=decoders, latents_per_chunk=3, prompt_tokens=5, fps=16)


def memory_of(kv_latents: int, latents_per_chunk: int) -> MemoryConfig:
    """A memory with which a chunk sees so many latents, itself among them.

    21 are the paper's, 3 sink, 12 slow and 6 fast. Fewer are sink and fast alone. Every check promotes, so that slow
    memory is full after 30 chunks; what is compared, moved and dropped is the same as under Eq. 7.
    """
    slow = 12 if kv_latents >= 21 else 0
    sink = min(3, kv_latents - slow - latents_per_chunk - 1)
    return MemoryConfig(
        num_sink=sink,
        num_slow=slow,
        num_fast=kv_latents - sink - slow,
        latents_per_chunk=latents_per_chunk,
        consolidate_every=2,
        rule=PromotionRule.UNIFORM,
    )


def check_scale(scale: str, kv_latents: list[int], decoder: str | None = None) -> None:
    """Refuse a scale that there is not, memories that do not fit its chunks, and a decoder that it does not have.

    Raises:
        ConfigError: If something is wrong.
    """
    known = [one.value for one in Scale]
    if scale not in known:
        raise ConfigError(f"got scale={scale}; expected one of {', '.join(known)}")
    sizes = sizes_of(Scale(scale))
    if decoder is not None and decoder not in sizes.decoders:
        raise ConfigError(
            f"got decoder={decoder}; expected {' or '.join(sizes.decoders)} at scale={scale}, or null for the first"
        )
    least = sizes.latents_per_chunk + 1
    if not kv_latents or min(kv_latents) < least:
        raise ConfigError(
            f"got kv_latents={kv_latents}; expected numbers from {least}: a chunk and a latent of its past"
        )


def random_world(
    scale: Scale,
    kv_latents: int,
    num_steps: int,
    device: torch.device,
    dtype: torch.dtype,
    decoder: Decoder | None = None,
) -> World:
    """A world with random weights, made where it will run and in its number format.

    Args:
        scale: How large.
        kv_latents: Latents that a chunk sees, itself among them.
        num_steps: Denoising steps.
        device: Where it runs.
        dtype: Of its weights.
        decoder: Who makes pixels; None for the scale's first.

    Raises:
        MissingDependencyError: If the decoder is Wan's, and diffusers is not installed.
    """
    sizes = sizes_of(scale)
    coder = sizes.decoders[decoder or next(iter(sizes.decoders))]
    config = WorldConfig(
        name=f"random_{scale.value}",
        fps=sizes.fps,
        prefix_latents=sizes.latents_per_chunk,
        ends=Ends.NEVER,
        actions=ActionConfig(num_actions=_ACTIONS),
        **coder_fields(coder),
        transformer=sizes.transformer,
        memory=memory_of(kv_latents, sizes.latents_per_chunk),
        sampler=SamplerConfig(solver=Solver.FEW_STEP, num_steps=num_steps, shift=5.0),
    )
    with torch.device(device):
        tokenizer = coder.build()
        generator = Generator(config.actions, config.transformer)
        generator.prompts = RandomTable(_ACTIONS, sizes.prompt_tokens, config.transformer, dtype)
        latents = torch.zeros(1, config.prefix_latents, *tokenizer.latent_shape)
        actions = torch.zeros(1, config.prefix_latents, config.frames_per_latent, dtype=torch.int64)
    for parameter in [*tokenizer.parameters(), *generator.parameters()]:
        parameter.data = parameter.data.to(dtype)
    starts = EncodedStarts(latents=latents, actions=actions, seeds=torch.zeros(1, dtype=torch.int64))
    return World(config, tokenizer, generator, starts, variant="random", device=device)


def use_memory(world: World, kv_latents: int) -> None:
    """Exchange a world's memory for one with which a chunk sees so many latents: states from before are another's."""
    world.config = replace(world.config, memory=memory_of(kv_latents, world.config.latents_per_chunk))


class RandomTable(DiscretePrompts):
    """For each action as many tokens as a text's encoder gives; encoding a text is no part of a step."""

    def __init__(self, num_actions: int, tokens: int, model: TransformerConfig, dtype: torch.dtype) -> None:
        super().__init__(
            DiscretePromptConfig(num_actions=num_actions, dim=model.prompt_dim, frames=model.frames_per_latent)
        )
        self.tokens_per_latent = tokens
        self.register_buffer("table", torch.randn(num_actions, tokens, model.prompt_dim, dtype=dtype), False)

    table: Tensor

    def forward(
        self, actions: Num[Tensor, "*action"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch P D"]:
        """The tokens of each latent's first frame's action."""
        del dropped
        return self.table[actions[..., 0]]
