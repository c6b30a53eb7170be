"""The part of a step that is tensors in and tensors out: what `World.compile` compiles, as one graph.

Nothing here depends on the value of a tensor on the host: which slots hold something, what is promoted and where an
episode ends are all decided in tensors of fixed shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import torch
from jaxtyping import Int64, Num
from torch import Tensor

from cfworld.diffusion import counter_noise, counter_uniform
from cfworld.memory import MemoryState
from cfworld.model import Generator
from cfworld.rollout import clean_pass, conditions, context_from_memory, denoise
from cfworld.rows import sigmoid_of_rows
from cfworld.world.config import Ends, WorldConfig
from cfworld.world.novelty import Novelty

__all__ = ["Generated", "compiled", "generate"]

_REPLAYED = ("reduce-overhead", "max-autotune")
"""Modes of `torch.compile` whose outputs lie in buffers that the next call writes to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Generated:
    """A chunk, and what follows from it; see `StepOutput`.

    Attributes:
        memory: The memory with the chunk committed.
        latents: [B, N, C, h, w] float32.
        reward_frames: Reward of every frame up to the end, [B, F] float32.
        hazard: Probability of ending at each frame, [B, F] float32.
        end_frame: Index of the frame at which the episode ends, or F, [B] int64.
        novelty: [B] float32, NaN where it was never measured.
    """

    memory: MemoryState
    latents: Tensor
    reward_frames: Tensor
    hazard: Tensor
    end_frame: Tensor
    novelty: Tensor


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """A function of tensors as one compiled graph, such as `generate`; see `World.compile`.

    Where the graph is replayed, what comes out is copied, so that the next call leaves it as it is.
    """
    run = torch.compile(function, fullgraph=True, dynamic=False, **options)
    if options.get("mode") not in _REPLAYED:
        return run

    def replay(*arguments: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return _copied(run(*arguments))

    return replay


def _copied(made: Any) -> Any:
    """What a graph gives, tensors in records and in sequences, sharing nothing with it."""
    if isinstance(made, Tensor):
        return made.clone()
    if isinstance(made, list | tuple):
        return type(made)(_copied(part) for part in made)
    if is_dataclass(made) and not isinstance(made, type):
        return replace(made, **{field.name: _copied(getattr(made, field.name)) for field in fields(made)})
    return made


def generate(
    generator: Generator,
    config: WorldConfig,
    measured: Novelty | None,
    memory: MemoryState,
    seeds: Int64[Tensor, " B"],
    step: Int64[Tensor, " B"],
    actions: Num[Tensor, "B N f *action"],
    tokens: tuple[Tensor, Tensor | None] | None = None,
) -> Generated:
    """Generate the next chunk of every row.

    Args:
        generator: Prompt encoder, transformer and heads.
        config: The world's settings.
        measured: How odd a step is; None where it was never measured.
        memory: What the rows remember.
        seeds: Seed of each row's noise.
        step: Steps taken by each row.
        actions: Checked actions, one per frame.
        tokens: `prompt_tokens` of the actions, where they are no function of tensors alone.
    """
    shape = (config.latents_per_chunk, *memory.latents.shape[2:])
    context = context_from_memory(generator, config.memory, memory)
    given = conditions(generator, config.sampler, context, actions, tokens)
    latents = denoise(
        generator,
        config.sampler,
        context,
        actions,
        lambda index: counter_noise(seeds, step, index, shape),
        given,
    )
    clean = clean_pass(generator, config.memory, memory, context, latents, actions, given=given)
    hazard = sigmoid_of_rows(clean.hazard_logit)
    end_frame = _end_frame(config.ends, hazard, seeds, step)
    before_end = torch.arange(config.frames_per_step, device=hazard.device) <= end_frame[:, None]
    if measured is None:
        novelty = torch.full_like(step, torch.nan, dtype=torch.float32)
    else:
        novelty = measured.of(memory, clean.keys)
    return Generated(
        memory=clean.memory,
        latents=latents,
        reward_frames=clean.reward * before_end,
        hazard=hazard,
        end_frame=end_frame,
        novelty=novelty,
    )


def _end_frame(ends: Ends, hazard: Tensor, seeds: Tensor, step: Tensor) -> Tensor:
    if ends is Ends.NEVER:
        return torch.full_like(step, hazard.shape[1])
    threshold = 0.5 if ends is Ends.GREEDY else counter_uniform(seeds, step, 0, hazard.shape[1:])
    ended = hazard > threshold
    sentinel = torch.ones_like(ended[:, :1])
    return torch.cat([ended, sentinel], dim=1).int().argmax(dim=1)
