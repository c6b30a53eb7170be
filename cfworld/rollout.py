"""Chunk-autoregressive generation over a memory: denoise a chunk, read it once more when clean, commit it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from cfworld.diffusion import Solver, guided, integrate, levels_of_passes, sigmas
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, MemoryState, NewLatents, commit, empty_memory, memory_positions
from cfworld.model import Generator, PromptKeys, TimeEmbedding, TransformerOutput, apply_rope
from cfworld.model.attention_backends import AttentionMask, KeyLengths
from cfworld.settings import check_counts

__all__ = [
    "CleanPass",
    "Conditions",
    "Context",
    "SamplerConfig",
    "Solver",
    "blank_memory",
    "clean_pass",
    "conditions",
    "context_from_memory",
    "context_of_slots",
    "denoise",
    "prompt_tokens",
    "read",
]


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    """How a chunk is denoised.

    Attributes:
        solver: Euler or Heun for a velocity model, few_step for a distilled generator.
        num_steps: Steps of the grid; network passes, except that Heun takes two a step.
        shift: Timestep shift of the grid.
        guidance: Textbook classifier-free guidance scale; 1 leaves it out.
    """

    solver: Solver = Solver.EULER
    num_steps: int = 4
    shift: float = 3.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        self.solver = Solver(self.solver)
        check_counts(self, "num_steps")
        if not 0 < self.shift < math.inf:
            raise ConfigError(f"got shift={self.shift}; expected a positive number.")
        if not math.isfinite(self.guidance):
            raise ConfigError(f"got guidance={self.guidance}; expected a finite number, where 1 leaves it out.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What the memory shows while one chunk is generated: computed once, used by every pass.

    Attributes:
        keys: Rotated keys, [L, B, S n, H, d].
        values: Values, [L, B, S n, H, d].
        positions: Temporal positions of the chunk, [B, N].
        mask: True at the tokens of valid slots and of the chunk, [B, 1, 1, (S + N) n]; or what the network's attention
            takes in its place. With `KeyLengths` the valid slots come first.
    """

    keys: Tensor
    values: Tensor
    positions: Tensor
    mask: AttentionMask | None

    def layer(self, layer: int, _keys: Tensor, _values: Tensor) -> tuple[Tensor, Tensor]:
        """Context keys and values of one layer; the chunk's own do not change them."""
        return self.keys[layer], self.values[layer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """What all passes over one chunk have in common besides its context: computed once.

    Attributes:
        levels: The sampler's noise levels from 1 to 0, embedded; the last one is the clean pass's.
        prompts: The actions' keys and values in every layer.
        null: The null prompt's, where guidance asks for it.
        rope: Tables that rotate the chunk's own queries and keys.
    """

    levels: list[TimeEmbedding]
    prompts: PromptKeys
    null: PromptKeys | None
    rope: tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanPass:
    """What reading a clean chunk gives.

    Attributes:
        memory: The memory with the chunk committed.
        keys: The chunk's own keys, before RoPE, [L, B, N, n, H, d].
        reward: Reward of every frame, [B, N f] float32.
        hazard_logit: Logit of ending at every frame, [B, N f] float32.
    """

    memory: MemoryState
    keys: Tensor
    reward: Tensor
    hazard_logit: Tensor


def context_from_memory(
    generator: Generator, config: MemoryConfig, memory: MemoryState, num_current: int | None = None
) -> Context:
    """Rotate the remembered keys to their slots' present positions and build the attention mask.

    Args:
        generator: Whose keys the memory holds.
        config: The memory's sizes and positions.
        memory: What is remembered.
        num_current: Latents that will look at it together; one chunk by default.
    """
    slots, current = memory_positions(config, memory.valid, memory.source, memory.count, num_current)
    return context_of_slots(generator, memory.keys, memory.values, memory.valid, slots, current)


def context_of_slots(
    generator: Generator,
    keys: Float[Tensor, "layers B S n H d"],
    values: Float[Tensor, "layers B S n H d"],
    valid: Bool[Tensor, "B S"],
    slots: Int[Tensor, "B S"],
    current: Int[Tensor, "B N"],
) -> Context:
    """What slots show.

    Args:
        generator: Whose keys they are.
        keys: Keys before RoPE.
        values: Values.
        valid: Which slots hold something.
        slots: Temporal positions of the slots.
        current: Temporal positions of the latents that will look at them.
    """
    transformer = generator.transformer
    tokens = transformer.config.tokens_per_latent
    if transformer.attention.takes_lengths:
        valid_first = (~valid).int().argsort(dim=1, stable=True)
        rows = torch.arange(len(valid), device=slots.device)[:, None]
        keys, values, slots = keys[:, rows, valid_first], values[:, rows, valid_first], slots.gather(1, valid_first)
        mask = KeyLengths(valid.sum(dim=1, dtype=torch.int32) * tokens)
    else:
        seen = torch.cat([valid, torch.ones_like(current, dtype=torch.bool)], dim=1)
        mask = transformer.prepared(seen.repeat_interleave(tokens, dim=1)[:, None, None], current.shape[1])
    return Context(
        keys=rearrange(apply_rope(keys, *transformer.rotation(slots)), "L B S n H d -> L B (S n) H d"),
        values=rearrange(values, "L B S n H d -> L B (S n) H d"),
        positions=current,
        mask=mask,
    )


def prompt_tokens(
    generator: Generator, sampler: SamplerConfig, actions: Num[Tensor, "B N f *action"]
) -> tuple[Float[Tensor, "B N P E"], Float[Tensor, "B N P E"] | None]:
    """Tokens of the actions, and those of the null prompt where the sampler's guidance asks for it.

    Args:
        generator: Whose prompt encoder.
        sampler: Whose guidance.
        actions: One action per frame.
    """
    null = None
    if sampler.guidance != 1.0:
        null = generator.prompts(actions, torch.ones(actions.shape[:2], dtype=torch.bool, device=actions.device))
    return generator.prompts(actions), null


def conditions(
    generator: Generator,
    sampler: SamplerConfig,
    context: Context,
    actions: Num[Tensor, "B N f *action"],
    tokens: tuple[Tensor, Tensor | None] | None = None,
) -> Conditions:
    """Embed the sampler's noise levels, the prompts and the chunk's positions, once for every pass over the chunk.

    Args:
        generator: Prompt encoder and transformer.
        sampler: Whose noise levels.
        context: What the memory shows, and where it puts the chunk.
        actions: One action per frame.
        tokens: `prompt_tokens` of the actions, where they are at hand.
    """
    transformer = generator.transformer
    dtype = transformer.patch_embedding.weight.dtype
    grid = sigmas(sampler.num_steps, sampler.shift, context.positions.device)
    prompts, null = prompt_tokens(generator, sampler, actions) if tokens is None else tokens
    return Conditions(
        levels=transformer.embed_time(grid[None]).levels(*context.positions.shape),
        prompts=transformer.embed_prompts(prompts.to(dtype)),
        null=None if null is None else transformer.embed_prompts(null.to(dtype)),
        rope=transformer.rotation(context.positions),
    )


def denoise(
    generator: Generator,
    sampler: SamplerConfig,
    context: Context,
    actions: Num[Tensor, "B N f *action"],
    noise: Callable[[int], Float[Tensor, "B N C h w"]],
    given: Conditions | None = None,
) -> Float[Tensor, "B N C h w"]:
    """Generate one chunk.

    Args:
        generator: Prompt encoder, transformer and heads.
        sampler: Solver and grid.
        context: What the memory shows.
        actions: One action per frame.
        noise: Standard normal noise of a pass, 0 the initial draw.
        given: `conditions` of this chunk, where they are at hand.

    Returns:
        Clean latents, float32.
    """
    given = given or conditions(generator, sampler, context, actions)
    levels = (given.levels[index] for index in levels_of_passes(sampler.solver, sampler.num_steps))

    def velocity(x: Tensor, _sigma: Tensor) -> Tensor:
        level = next(levels)
        v = read(generator, x, level, given.prompts, context, given.rope).velocity
        if given.null is None:
            return v
        return guided(v, read(generator, x, level, given.null, context, given.rope).velocity, sampler.guidance)

    grid = sigmas(sampler.num_steps, sampler.shift, context.positions.device)
    return integrate(sampler.solver, velocity, noise(0), grid, noise)


def blank_memory(
    generator: Generator,
    config: MemoryConfig,
    latents: Float[Tensor, "B N C h w"],
    actions: Num[Tensor, "B N f *action"],
) -> MemoryState:
    """An empty memory for this network and for chunks like the given one."""
    model = generator.transformer.config
    shape = (model.depth, *latents.shape[:2], model.tokens_per_latent, model.num_heads, model.head_dim)
    keys = generator.transformer.patch_embedding.weight.new_empty(shape)
    like = NewLatents(keys=keys, values=keys, latents=latents, actions=actions)
    return empty_memory(config, like, generator.key_centre)


def clean_pass(
    generator: Generator,
    config: MemoryConfig,
    memory: MemoryState,
    context: Context,
    latents: Float[Tensor, "B N C h w"],
    actions: Num[Tensor, "B N f *action"],
    flag: Bool[Tensor, " B"] | None = None,
    given: Conditions | None = None,
) -> CleanPass:
    """Read a clean chunk (sigma = 0): write its keys and values, and read reward and hazard off its features.

    `flag` imposes whether the chunk is promoted; see `commit`. `given` are the `conditions` under which it was made,
    where they are at hand.
    """
    if given is None:
        sigma = torch.zeros(latents.shape[:2], device=latents.device)
        output = read(generator, latents, sigma, generator.prompts(actions), context)
    else:
        output = read(generator, latents, given.levels[-1], given.prompts, context, given.rope)
    new = NewLatents(keys=torch.stack(output.keys), values=torch.stack(output.values), latents=latents, actions=actions)
    reward, hazard_logit = generator.heads(output.features)
    return CleanPass(
        memory=commit(memory, config, new, flag),
        keys=new.keys,
        reward=reward.flatten(1),
        hazard_logit=hazard_logit.flatten(1),
    )


def read(
    generator: Generator,
    x: Tensor,
    sigma: Tensor | TimeEmbedding,
    prompts: Tensor | PromptKeys,
    context: Context,
    rope: tuple[Tensor, Tensor] | None = None,
) -> TransformerOutput:
    """One pass of the network over a chunk: x [B, N, C, h, w], sigma [B, N], prompts [B, N, P, E], or embedded ones."""
    dtype = generator.transformer.patch_embedding.weight.dtype
    if isinstance(prompts, Tensor):
        prompts = prompts.to(dtype)
    positions = context.positions if rope is None else rope
    return generator.transformer(x.to(dtype), sigma, prompts, positions, context.layer, context.mask)
