"""Gathered teacher forcing: the schedule is the memory's own, and no target sees its future."""

import torch

from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.train.gathered import gathered_forward, slot_schedule
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


def forward(clean: torch.Tensor, noisy: torch.Tensor) -> torch.Tensor:
    config = toy_config(memory=CONFIG)
    generator = toy_generator(config).eval()
    sigma = torch.full(clean.shape[:2], 0.5)
    actions = torch.zeros(*clean.shape[:2], 4, dtype=torch.long)
    schedule = slot_schedule(CONFIG, torch.ones(clean.shape[:2], dtype=torch.bool))
    with torch.no_grad():
        return gathered_forward(generator, schedule, clean, noisy, sigma, actions).velocity


def test_a_target_sees_the_clean_past_but_neither_its_own_clean_copy_nor_the_future():
    generator = torch.Generator().manual_seed(0)
    clean, noisy = torch.randn(2, 1, 9, 4, 8, 8, generator=generator)
    plain = forward(clean, noisy)
    changed = clean.clone()
    changed[:, 5] += 3
    moved = (forward(changed, noisy) - plain).abs().amax(dim=(0, 2, 3, 4))
    assert moved[:6].max() == 0
    assert moved[6:].min() > 1e-5


def test_one_target_does_not_see_another():
    generator = torch.Generator().manual_seed(0)
    clean, noisy = torch.randn(2, 1, 9, 4, 8, 8, generator=generator)
    changed = noisy.clone()
    changed[:, 4] += 3
    moved = (forward(clean, changed) - forward(clean, noisy)).abs().amax(dim=(0, 2, 3, 4))
    assert moved.nonzero()[:, 0].tolist() == [4]


def test_the_gradient_of_a_target_reaches_the_context():
    config = toy_config(memory=CONFIG)
    generator = toy_generator(config)
    clean, noisy = torch.randn(2, 1, 6, 4, 8, 8)
    clean.requires_grad_()
    schedule = slot_schedule(CONFIG, torch.ones(1, 6, dtype=torch.bool))
    sigma, actions = torch.full((1, 6), 0.5), torch.zeros(1, 6, 4, dtype=torch.long)
    output = gathered_forward(generator, schedule, clean, noisy, sigma, actions)
    output.velocity[:, -1].square().sum().backward()
    assert clean.grad is not None
    reached = clean.grad.abs().amax(dim=(0, 2, 3, 4)) > 0
    assert reached.tolist() == [True, True, True, True, True, False]
