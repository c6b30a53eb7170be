"""A step in parts, each a function of tensors that may be compiled by itself, as the whole step may be."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cfworld.diffusion import counter_noise
from cfworld.memory import MemoryState, NewLatents, commit
from cfworld.metrics.machine import synchronize
from cfworld.metrics.speed.roofline import Work, pass_work, prompt_work, work_of_memory
from cfworld.metrics.speed.world_speed import random_actions
from cfworld.model import Generator
from cfworld.rollout import Conditions, Context, conditions, context_from_memory, denoise, read
from cfworld.world import World, WorldConfig, WorldState

__all__ = ["STEP_PARTS", "part_seconds", "part_works"]

STEP_PARTS = ("denoise", "clean_pass", "memory", "decode")
"""The denoising passes; the pass over the clean chunk, with reward and hazard; reading and writing the memory, and the
prompts' keys; pixels."""


def part_works(world: World, state: WorldState, prompt_tokens: int) -> dict[str, Work]:
    """What each part has to do, by `STEP_PARTS`.

    Args:
        world: the world; its memory is taken to be full, and its sampler to take one pass a step.
        state: whose next step.
        prompt_tokens: tokens of each latent's prompt.
    """
    config, model, batch = world.config, world.generator.transformer.config, state.num_rows
    width = world.generator.transformer.patch_embedding.weight.element_size()
    once = pass_work(model, config.memory, batch, prompt_tokens, width)
    prompts = prompt_work(model, batch * config.latents_per_chunk, prompt_tokens, width)
    return {
        "denoise": once.times(config.sampler.num_steps),
        "clean_pass": once,
        "memory": work_of_memory(model, config.memory, batch, width) + prompts,
        "decode": _decode_work(world, state),
    }


def part_seconds(
    world: World, state: WorldState, rounds: int, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> dict[str, float]:
    """Median seconds of each part of a step, by `STEP_PARTS`.

    Args:
        world: the world.
        state: whose next step.
        rounds: rounds to time, after one that is not.
        wrap: makes of each function what is timed: compiles it, or leaves it.
    """
    generator, config = world.generator, world.config
    actions = world.actions_per_latent(random_actions(world, state.seeds, state.step), state.num_rows)
    prepare, denoised, cleaned, committed = (wrap(part) for part in (_prepare, _denoised, _cleaned, _committed))
    timed = [
        _round(
            world,
            state,
            lambda: prepare(generator, config, state.memory, actions),
            actions,
            denoised,
            cleaned,
            committed,
        )
        for _ in range(1 + rounds)
    ]
    return {name: float(np.median([one[name] for one in timed[1:]])) for name in STEP_PARTS}


@torch.inference_mode()
def _round(
    world: World,
    state: WorldState,
    prepare: Callable[[], tuple[Context, Conditions]],
    actions: Tensor,
    denoised: Callable[..., Tensor],
    cleaned: Callable[..., tuple[NewLatents, Tensor, Tensor]],
    committed: Callable[..., MemoryState],
) -> dict[str, float]:
    generator, config = world.generator, world.config
    (context, given), before = _timed(world, prepare)
    latents, denoise_s = _timed(
        world, lambda: denoised(generator, config, context, given, actions, state.seeds, state.step)
    )
    (new, *_), clean_s = _timed(world, lambda: cleaned(generator, context, given, latents, actions))
    _, after = _timed(world, lambda: committed(config, state.memory, new))
    _, decode_s = _timed(world, lambda: world.tokenizer.decode_next(latents, state.stream))
    return {"denoise": denoise_s, "clean_pass": clean_s, "memory": before + after, "decode": decode_s}


def _timed(world: World, work: Callable[[], Any]) -> tuple[Any, float]:
    synchronize(world.device)
    begin = perf_counter()
    result = work()
    synchronize(world.device)
    return result, perf_counter() - begin


def _prepare(
    generator: Generator, config: WorldConfig, memory: MemoryState, actions: Tensor
) -> tuple[Context, Conditions]:
    context = context_from_memory(generator, config.memory, memory)
    return context, conditions(generator, config.sampler, context, actions)


def _denoised(
    generator: Generator,
    config: WorldConfig,
    context: Context,
    given: Conditions,
    actions: Tensor,
    seeds: Tensor,
    step: Tensor,
) -> Tensor:
    shape = (config.latents_per_chunk, config.transformer.in_channels, *config.transformer.latent_size)
    return denoise(
        generator, config.sampler, context, actions, lambda index: counter_noise(seeds, step, index, shape), given
    )


def _cleaned(
    generator: Generator, context: Context, given: Conditions, latents: Tensor, actions: Tensor
) -> tuple[NewLatents, Tensor, Tensor]:
    output = read(generator, latents, given.levels[-1], given.prompts, context, given.rope)
    new = NewLatents(keys=torch.stack(output.keys), values=torch.stack(output.values), latents=latents, actions=actions)
    return new, *generator.heads(output.features)


def _committed(config: WorldConfig, memory: MemoryState, new: NewLatents) -> MemoryState:
    return commit(memory, config.memory, new)


@torch.inference_mode()
def _decode_work(world: World, state: WorldState) -> Work:
    """Counted as the decoder runs, so that any decoder will do.

    Its traffic is its weights, latents and frames, and what is carried on, read and written.
    """
    latents = torch.zeros_like(state.latents)
    with FlopCounterMode(display=False) as counter:
        frames, carried = world.tokenizer.decode_next(latents, state.stream)
    weights = sum(p.nbytes for name, p in world.tokenizer.named_parameters() if "encoder." not in name)
    stream = 2 * sum(value.nbytes for value in carried.values())
    return Work(counter.get_total_flops(), weights + latents.nbytes + frames.nbytes + stream)
