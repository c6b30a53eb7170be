"""Recache: what is remembered, read anew under another prompt."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cfworld.memory import MemoryConfig, MemoryState
from cfworld.model import Generator
from cfworld.prefix import prime
from cfworld.recache import recache, recache_switched
from tests.toy import toy_config, toy_generator

CONFIG = toy_config(
    memory=MemoryConfig(num_sink=2, num_slow=2, num_fast=6, latents_per_chunk=2, consolidate_every=1, threshold=1.1)
)
OLD, NEW = 0, 1


@pytest.fixture(scope="module")
def generator() -> Generator:
    return toy_generator(CONFIG).eval().requires_grad_(False)


def latents(length: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, length, 4, 8, 8, generator=torch.Generator().manual_seed(5))


def actions(prompt: int, *shape: int) -> Tensor:
    return torch.full((*shape, 4), prompt)


def remembered(generator: Generator, length: int, prompt: int) -> MemoryState:
    return prime(generator, CONFIG.memory, latents(length), actions(prompt, 2, length))


def test_it_gives_what_the_memory_would_hold_had_the_prompt_always_been_the_new_one(generator: Generator):
    found = recache(generator, CONFIG.memory, remembered(generator, 6, OLD), actions(NEW, 2))
    expected = remembered(generator, 6, NEW)
    assert not torch.allclose(remembered(generator, 6, OLD).keys, expected.keys, atol=1e-2)
    held = expected.valid[None, :, :, None, None, None]
    for name in ("keys", "values"):
        torch.testing.assert_close(getattr(found, name) * held, getattr(expected, name) * held, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.actions[found.valid], expected.actions[expected.valid])


def test_the_same_prompt_again_changes_nothing_where_nothing_was_dropped(generator: Generator):
    before = remembered(generator, 6, OLD)
    after = recache(generator, CONFIG.memory, before, actions(OLD, 2))
    held = before.valid[None, :, :, None, None, None]
    torch.testing.assert_close(after.keys * held, before.keys * held, atol=1e-5, rtol=1e-5)


def test_slots_keep_their_latents_and_what_decides_on_promotion(generator: Generator):
    before = remembered(generator, 20, OLD)
    assert before.valid.all(), "full, with slow slots"
    after = recache(generator, CONFIG.memory, before, actions(NEW, 2))
    for name in ("latents", "source", "valid", "flagged", "count", "reference", "threshold", "checks"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    assert not torch.allclose(after.keys, before.keys, atol=1e-2)
    assert (after.actions == NEW).all()


def test_only_rows_whose_prompt_changes_are_read_anew(generator: Generator):
    before = remembered(generator, 20, OLD)
    now = torch.cat([actions(OLD, 1), actions(NEW, 1)])
    after = recache_switched(generator, CONFIG.memory, before, now)
    assert torch.equal(after.keys[:, 0], before.keys[:, 0])
    assert not torch.allclose(after.keys[:, 1], before.keys[:, 1], atol=1e-2)
    again = recache_switched(generator, CONFIG.memory, after, now)
    assert again is after


def test_an_empty_memory_has_nothing_to_read(generator: Generator):
    full = remembered(generator, 6, OLD)
    empty = replace(full, valid=torch.zeros_like(full.valid))
    assert recache_switched(generator, CONFIG.memory, empty, actions(NEW, 2)) is empty
