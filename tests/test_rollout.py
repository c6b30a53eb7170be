"""Cached generation equals the full forward pass without a cache; rows are independent; cost is constant."""

from dataclasses import replace

import pytest
import torch

from cfworld.prefix import prime
from cfworld.rollout import (
    Solver,
    blank_memory,
    clean_pass,
    context_from_memory,
    denoise,
    read,
)
from cfworld.train.forcing.gathered import gathered_forward, slot_schedule
from tests.toy import memory_config, toy_config, toy_generator


@pytest.mark.parametrize("chunk", [1, 2])
def test_cached_generation_equals_a_full_forward_pass_without_a_cache(chunk: int):
    """Twenty latents are read chunk by chunk over the memory, and all at once by gathered teacher forcing."""
    config = toy_config(memory=memory_config(chunk))
    generator = toy_generator(config).eval()
    draw = torch.Generator().manual_seed(0)
    clean, noisy = torch.randn(2, 3, 20, 4, 8, 8, generator=draw)
    actions = torch.randint(0, 3, (3, 20, 4), generator=draw)
    sigma = torch.rand(3, 20 // chunk, generator=draw).repeat_interleave(chunk, dim=1)
    flags = ((torch.arange(20 // chunk) + 1) % 2 == 0).expand(3, -1)
    with torch.no_grad():
        schedule = slot_schedule(config.memory, flags)
        full = gathered_forward(generator, schedule, clean, noisy[:, None], sigma[:, None], actions)
        memory = blank_memory(generator, config.memory, clean[:, :chunk], actions[:, :chunk])
        for first in range(0, 20, chunk):
            now = slice(first, first + chunk)
            context = context_from_memory(generator, config.memory, memory)
            cached = read(generator, noisy[:, now], sigma[:, now], generator.prompts(actions[:, now]), context)
            torch.testing.assert_close(cached.velocity, full.velocity[:, 0, now], rtol=1e-4, atol=1e-5)
            done = clean_pass(generator, config.memory, memory, context, clean[:, now], actions[:, now])
            torch.testing.assert_close(done.reward, full.reward[:, now].flatten(1), rtol=1e-4, atol=1e-5)
            memory = done.memory
    assert memory.promotions.min() >= 5, "the memory must have been at work"


@pytest.mark.parametrize(("solver", "passes"), [(Solver.EULER, 3), (Solver.HEUN, 6), (Solver.FEW_STEP, 3)])
def test_a_solver_takes_the_passes_that_it_says(solver: Solver, passes: int):
    config = toy_config()
    generator = toy_generator(config).eval()
    calls = []
    generator.transformer.register_forward_hook(lambda *_: calls.append(1))
    actions = torch.zeros(1, 2, 4, dtype=torch.long)
    with torch.no_grad():
        memory = prime(generator, config.memory, torch.randn(1, 2, 4, 8, 8), actions)
        context = context_from_memory(generator, config.memory, memory)
        calls.clear()
        sampler = replace(config.sampler, solver=solver, num_steps=3)
        denoise(generator, sampler, context, actions[:, :1], lambda _: torch.randn(1, 1, 4, 8, 8))
    assert len(calls) == passes


def test_guidance_of_one_costs_nothing_and_guidance_of_two_moves_the_sample():
    config = toy_config()
    generator = toy_generator(config).eval()
    actions = torch.zeros(1, 2, 4, dtype=torch.long)
    noise = torch.randn(1, 1, 4, 8, 8)
    with torch.no_grad():
        memory = prime(generator, config.memory, torch.randn(1, 2, 4, 8, 8), actions)
        context = context_from_memory(generator, config.memory, memory)
        plain, again, strong = (
            denoise(generator, replace(config.sampler, guidance=g), context, actions[:, :1], lambda _: noise)
            for g in (1.0, 1.0, 2.0)
        )
    torch.testing.assert_close(plain, again, rtol=0, atol=0)
    assert (plain - strong).abs().max() > 1e-5


def test_guidance_leads_away_from_what_the_null_prompt_would_give():
    """v = v_null + s (v_prompt - v_null), of which one Euler step is linear; 0 leaves the null prompt alone."""
    config = toy_config()
    generator = toy_generator(config).eval()
    actions = torch.zeros(1, 2, 4, dtype=torch.long)
    noise = torch.randn(1, 1, 4, 8, 8)
    one = replace(config.sampler, num_steps=1)
    with torch.no_grad():
        memory = prime(generator, config.memory, torch.randn(1, 2, 4, 8, 8), actions)
        context = context_from_memory(generator, config.memory, memory)
        plain, null, strong = (
            denoise(generator, replace(one, guidance=g), context, actions[:, :1], lambda _: noise)
            for g in (1.0, 0.0, 3.0)
        )
        dropped = generator.prompts(actions[:, :1], torch.ones(1, 1, dtype=torch.bool))
        expected = noise - read(generator, noise, torch.ones(1, 1), dropped, context).velocity
    torch.testing.assert_close(null, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(strong, null + 3 * (plain - null), rtol=1e-4, atol=1e-5)
