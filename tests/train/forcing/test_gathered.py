"""Gathered teacher forcing: the schedule is the memory's own, and no target sees its future."""

from dataclasses import replace

import pytest
import torch

from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.model import Generator
from cfworld.train.forcing.gathered import gathered_forward, gathered_keys, gathered_velocity, slot_schedule
from tests.memory_tools import filled
from tests.toy import toy_config, toy_generator

CONFIG = MemoryConfig(num_sink=2, num_slow=3, num_fast=4, consolidate_every=2, rule=PromotionRule.UNIFORM)


def test_the_schedule_shows_what_a_memory_with_the_same_promotions_holds():
    flags = ((torch.arange(14) + 1) % 2 == 0)[None]
    schedule = slot_schedule(CONFIG, flags)
    for chunk in range(1, 14):
        memory = filled(CONFIG, chunk)
        assert torch.equal(schedule.valid[0, chunk], memory.valid[0])
        assert torch.equal(schedule.source[0, chunk][memory.valid[0]], memory.source[memory.valid])
    assert not schedule.valid[0, 0].any()


def test_positions_of_the_schedule_stay_bounded():
    schedule = slot_schedule(CONFIG, torch.ones(2, 30, dtype=torch.bool))
    assert schedule.positions.max() == CONFIG.num_sink + CONFIG.num_slow + CONFIG.num_fast - 1
    assert schedule.slot_positions.max() < schedule.positions.max()


def forward(clean: torch.Tensor, noisy: torch.Tensor, memory: MemoryConfig = CONFIG) -> torch.Tensor:
    config = toy_config(memory=memory, prefix_latents=memory.latents_per_chunk)
    generator = toy_generator(config).eval()
    sigma = torch.full(noisy.shape[:3], 0.5)
    actions = torch.zeros(*clean.shape[:2], 4, dtype=torch.long)
    num_chunks = clean.shape[1] // memory.latents_per_chunk
    schedule = slot_schedule(memory, torch.ones(len(clean), num_chunks, dtype=torch.bool))
    with torch.no_grad():
        return gathered_forward(generator, schedule, clean, noisy, sigma, actions).velocity


def two_clips() -> tuple[torch.Tensor, torch.Tensor]:
    """A clean clip [1, 9, ...] and one noisy copy of another [1, 1, 9, ...]."""
    clean, noisy = torch.randn(2, 1, 9, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    return clean, noisy[:, None]


def test_a_target_sees_the_clean_past_but_neither_its_own_clean_copy_nor_the_future():
    clean, noisy = two_clips()
    plain = forward(clean, noisy)
    changed = clean.clone()
    changed[:, 5] += 3
    moved = (forward(changed, noisy) - plain).abs().amax(dim=(0, 1, 3, 4, 5))
    assert moved[:6].max() == 0
    assert moved[6:].min() > 1e-5


def test_one_target_does_not_see_another():
    clean, noisy = two_clips()
    changed = noisy.clone()
    changed[:, :, 4] += 3
    moved = (forward(clean, changed) - forward(clean, noisy)).abs().amax(dim=(0, 1, 3, 4, 5))
    assert moved.nonzero()[:, 0].tolist() == [4]


@pytest.mark.parametrize("chunk", [1, 3])
def test_copies_are_the_passes_that_each_would_be_alone(chunk: int):
    clean, first = two_clips()
    copies = torch.cat([first, first.flip(2), -first], dim=1)
    memory = replace(CONFIG, latents_per_chunk=chunk)
    together = forward(clean, copies, memory)
    for index in range(3):
        torch.testing.assert_close(together[:, index], forward(clean, copies[:, index : index + 1], memory)[:, 0])


@pytest.mark.parametrize("drops", [False, True])
def test_a_context_that_was_read_before_gives_the_same_velocities(drops: bool):
    generator = toy_generator(toy_config(memory=CONFIG)).eval()
    clean, noisy = two_clips()
    noisy = torch.cat([noisy, -noisy], dim=1)
    sigma = torch.linspace(0.1, 0.9, 18).view(1, 2, 9)
    actions = torch.arange(36).view(1, 9, 4) % 3
    dropped = sigma > 0.4 if drops else None
    schedule = slot_schedule(CONFIG, torch.ones(1, 9, dtype=torch.bool))
    with torch.no_grad():
        known = gathered_keys(generator, schedule, clean, actions)
        found = gathered_velocity(generator, schedule, known, noisy, sigma, actions, dropped)
        expected = gathered_forward(generator, schedule, clean, noisy, sigma, actions, dropped).velocity
    torch.testing.assert_close(found, expected)


def test_a_network_without_heads_says_that_there_is_nothing_to_learn_of_rewards_and_ends():
    config = toy_config(memory=CONFIG)
    clean, noisy = two_clips()
    actions, schedule = (
        torch.zeros(1, 9, 4, dtype=torch.long),
        slot_schedule(CONFIG, torch.ones(1, 9, dtype=torch.bool)),
    )
    found = []
    for heads in (True, False):
        generator = Generator(config.actions, replace(config.transformer, heads=heads)).eval()
        with torch.no_grad():
            output = gathered_forward(generator, schedule, clean, noisy, torch.full((1, 1, 9), 0.5), actions)
        found.append(output.has_heads)
    assert found == [True, False]


def test_the_gradient_of_a_target_reaches_the_context():
    config = toy_config(memory=CONFIG)
    generator = toy_generator(config)
    clean, noisy = torch.randn(1, 6, 4, 8, 8), torch.randn(1, 1, 6, 4, 8, 8)
    clean.requires_grad_()
    schedule = slot_schedule(CONFIG, torch.ones(1, 6, dtype=torch.bool))
    sigma, actions = torch.full((1, 1, 6), 0.5), torch.zeros(1, 6, 4, dtype=torch.long)
    output = gathered_forward(generator, schedule, clean, noisy, sigma, actions)
    output.velocity[:, :, -1].square().sum().backward()
    assert clean.grad is not None
    reached = clean.grad.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert reached.tolist() == [True, True, True, True, True, False]
