"""Where latents go: sink, slow, fast, and out."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.memory import (
    MemoryConfig,
    MemoryState,
    PromotionRule,
    commit,
    empty_memory,
    is_check,
    key_similarity,
    token_mean,
)
from tests.memory_tools import filled, numbered_chunk

UNIFORM = MemoryConfig(num_sink=2, num_slow=3, num_fast=4, consolidate_every=2, rule=PromotionRule.UNIFORM)

# What the slots hold after each chunk, worked out by hand: two sink, three slow, three stored fast slots.
GOLDEN = [
    ([0, -1], [-1, -1, -1], [-1, -1, -1]),
    ([0, 1], [-1, -1, -1], [-1, -1, -1]),
    ([0, 1], [-1, -1, -1], [2, -1, -1]),
    ([0, 1], [-1, -1, -1], [2, 3, -1]),
    ([0, 1], [-1, -1, -1], [2, 3, 4]),
    ([0, 1], [-1, -1, -1], [3, 4, 5]),
    ([0, 1], [3, -1, -1], [4, 5, 6]),
    ([0, 1], [3, -1, -1], [5, 6, 7]),
    ([0, 1], [3, 5, -1], [6, 7, 8]),
    ([0, 1], [3, 5, -1], [7, 8, 9]),
    ([0, 1], [3, 5, 7], [8, 9, 10]),
    ([0, 1], [3, 5, 7], [9, 10, 11]),
    ([0, 1], [5, 7, 9], [10, 11, 12]),
]


@pytest.mark.parametrize("chunks", range(1, len(GOLDEN) + 1))
def test_slots_hold_what_the_golden_table_says(chunks: int):
    sink, slow, fast = GOLDEN[chunks - 1]
    assert filled(UNIFORM, chunks).source[0].tolist() == sink + slow + fast


def test_the_newest_slot_is_the_last_that_holds_something_and_the_first_of_an_empty_memory():
    assert [filled(UNIFORM, chunks).newest[0].item() for chunks in (1, 2, 3, 6, 13)] == [0, 1, 5, 7, 7]
    assert empty_memory(UNIFORM, numbered_chunk(0, UNIFORM)).newest.tolist() == [0]


def test_every_tensor_of_a_slot_moves_with_it():
    memory = filled(UNIFORM, 13)
    source = memory.source[0]
    assert memory.latents[0, :, 0, 0, 0].tolist() == source.tolist()
    assert memory.actions[0, :, 0].tolist() == source.tolist()
    expected = torch.stack([source.float().cos(), source.float().sin()], dim=-1)
    torch.testing.assert_close(memory.keys[0, 0, :, 0, 0], expected)
    torch.testing.assert_close(memory.values[0, 0, :, 0, 0], 2 * expected)


def test_only_the_first_latent_of_a_flagged_chunk_is_promoted():
    config = MemoryConfig(
        num_sink=0, num_slow=4, num_fast=6, latents_per_chunk=3, consolidate_every=2, rule=PromotionRule.UNIFORM
    )
    memory = filled(config, 6)
    assert memory.source[0].tolist() == [3, 9, -1, -1, 15, 16, 17]


def test_only_fast_slots_are_flagged_whatever_went_to_sink_and_slow():
    """Every second chunk is flagged; chunk 1 is in the sink and chunks 5, 7 and 9 are in slow memory."""
    assert filled(UNIFORM, 13).source[0].tolist() == [0, 1, 5, 7, 9, 10, 11, 12]
    assert filled(UNIFORM, 13).flagged[0].tolist() == [False] * 6 + [True, False]


def test_a_memory_without_slow_slots_forgets_what_leaves_fast():
    config = MemoryConfig(num_sink=1, num_slow=0, num_fast=3, consolidate_every=1, rule=PromotionRule.UNIFORM)
    assert filled(config, 9).source[0].tolist() == [0, 7, 8]


def test_a_chunk_like_the_last_checked_one_is_not_promoted():
    config = MemoryConfig(num_sink=0, num_slow=3, num_fast=3, consolidate_every=1, threshold=0.9)
    memory = filled(config, 1)
    same = numbered_chunk(0, config)
    for _ in range(5):
        memory = commit(memory, config, same)
    assert memory.checks.item() == 6
    assert memory.promotions.item() == 1, "the first check has nothing to compare with; the others found no news"
    torch.testing.assert_close(memory.similarity, torch.ones(1))


def test_similarity_is_the_cosine_of_the_mean_keys():
    config = MemoryConfig(num_sink=0, num_slow=3, num_fast=3, consolidate_every=1, threshold=0.5)
    torch.testing.assert_close(filled(config, 2).similarity, torch.tensor([1.0]).cos())


def test_similarity_is_the_mean_over_the_layers():
    """One layer sees the same as before, two see something at right angles to it."""
    same, other = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    before, now = torch.stack([same, same, same]), torch.stack([same, other, other])
    assert key_similarity(now[:, None], before[:, None]).item() == pytest.approx(1 / 3)


def test_narrow_keys_are_averaged_in_float32():
    """The mean of 1 and the next number of bfloat16, 1 + 2^-7, lies between the two."""
    keys = torch.tensor([1, 1 + 2**-7], dtype=torch.bfloat16)[None, None, None, :, None, None]
    mean = token_mean(keys)
    assert mean.dtype == torch.float32
    assert mean.item() == 1 + 2**-8


def test_a_chunk_exactly_as_alike_as_the_threshold_is_no_news():
    config = MemoryConfig(num_sink=0, num_slow=3, num_fast=3, consolidate_every=1, threshold=0.0)
    memory = empty_memory(config, numbered_chunk(0, config))
    for direction in ([1.0, 0.0], [0.0, 1.0]):
        keys = torch.tensor(direction).expand(1, 1, 1, 1, 1, 2)
        memory = commit(memory, config, dataclasses.replace(numbered_chunk(0, config), keys=keys))
    assert memory.similarity.item() == 0
    assert memory.promotions.item() == 1, "the first check"


def test_a_check_compares_with_the_previous_check_whatever_came_between():
    """Chunk k points k radians round; chunks 1, 3 and 5 are checked."""
    config = MemoryConfig(num_sink=0, num_slow=3, num_fast=3, consolidate_every=2, threshold=-0.5)
    for chunks in (4, 5, 6):
        torch.testing.assert_close(filled(config, chunks).similarity, torch.tensor([2.0]).cos())
    assert filled(config, 6).promotions.item() == 1, "cos 2 = -0.42 is no news below -0.5"


def test_an_adaptive_threshold_stays_where_it_is_at_the_first_check_and_between_checks():
    """Then it moves by adaptation x (target - promoted), and never beyond -1 to 1."""
    settings = {"num_sink": 0, "num_slow": 3, "num_fast": 3, "consolidate_every": 2, "threshold": 0.5}
    config = MemoryConfig(**settings, target_rate=0.75, adaptation=0.2)
    expected = [0.5, 0.5, 0.5, 0.45, 0.45, 0.4]  # chunks 3 and 5 are promoted: cos 2 < 0.5
    assert [filled(config, chunks).threshold.item() for chunks in range(1, 7)] == pytest.approx(expected)
    wild = MemoryConfig(**settings, target_rate=0.75, adaptation=100.0)
    assert filled(wild, 4).threshold.item() == -1
    wild.threshold = -0.5
    assert filled(wild, 4).threshold.item() == 1, "cos 2 = -0.42 is no news below -0.5"


def test_a_common_part_of_all_keys_hides_news_unless_it_is_subtracted():
    """Keys 10 + e1 and 10 + e2 look alike; around the centre 10 they are orthogonal, and equal keys stay equal."""
    settings = {"num_sink": 0, "num_slow": 2, "num_fast": 3, "consolidate_every": 1, "threshold": 0.5}
    first, second = torch.tensor([11.0, 10.0]), torch.tensor([10.0, 11.0])

    def similarities(centred: bool) -> list[float]:
        config = MemoryConfig(centred=centred, **settings)
        memory = empty_memory(config, numbered_chunk(0, config), centre=torch.full((1, 2), 10.0))
        found = []
        for key in (first, second, second):
            keys = key.expand(1, 1, 1, 1, 1, 2)
            memory = commit(memory, config, dataclasses.replace(numbered_chunk(0, config), keys=keys, values=keys))
            found.append(memory.similarity.item())
        return found

    assert similarities(centred=False)[1:] == pytest.approx([220 / 221, 1.0])
    assert similarities(centred=True)[1:] == pytest.approx([0.0, 1.0], abs=1e-6)


def test_checks_come_at_the_cadence():
    config = MemoryConfig(num_sink=0, num_fast=6, latents_per_chunk=3, consolidate_every=4)
    first_latents = torch.arange(0, 36, 3)
    assert is_check(first_latents, config).nonzero()[:, 0].tolist() == [3, 7, 11]


def test_rows_follow_their_own_history():
    early, late = filled(UNIFORM, 3), filled(UNIFORM, 12)
    joined = MemoryState.cat([early, late])
    chunks = [numbered_chunk(3, UNIFORM), numbered_chunk(12, UNIFORM)]
    both = numbered_chunk(0, UNIFORM, rows=2)
    both = type(both)(
        keys=torch.cat([c.keys for c in chunks], dim=1),
        values=torch.cat([c.values for c in chunks], dim=1),
        latents=torch.cat([c.latents for c in chunks]),
        actions=torch.cat([c.actions for c in chunks]),
    )
    together = commit(joined, UNIFORM, both)
    apart = MemoryState.cat([commit(early, UNIFORM, chunks[0]), commit(late, UNIFORM, chunks[1])])
    for name, value in together.tensors().items():
        torch.testing.assert_close(value, getattr(apart, name), rtol=0, atol=0)


def test_size_and_positions_stay_bounded_over_ten_thousand_chunks():
    from cfworld.memory import bounded_positions

    memory = filled(UNIFORM, 100)
    shapes = {name: value.shape for name, value in memory.tensors().items()}
    chunk = numbered_chunk(0, UNIFORM)
    for _ in range(100, 10_000):
        memory = commit(memory, UNIFORM, chunk)
    slots, current = bounded_positions(memory.valid, 1)
    assert {name: value.shape for name, value in memory.tensors().items()} == shapes
    assert current.item() == UNIFORM.num_sink + UNIFORM.num_slow + UNIFORM.num_fast - 1
    assert slots[0].tolist() == list(range(8))
    assert memory.source[0].tolist() == [0, 1, 9991, 9993, 9995, 9997, 9998, 9999]


def test_an_adaptive_threshold_brings_the_promotion_rate_to_its_target():
    config = MemoryConfig(
        num_sink=0, num_slow=2, num_fast=2, consolidate_every=1, threshold=-1.0, target_rate=0.5, adaptation=0.05
    )
    generator = torch.Generator().manual_seed(0)
    memory = filled(config, 1)
    for _ in range(1500):
        chunk = numbered_chunk(0, config)
        keys = torch.randn(chunk.keys.shape, generator=generator)
        memory = commit(
            memory, config, type(chunk)(keys=keys, values=keys, latents=chunk.latents, actions=chunk.actions)
        )
    assert memory.promotions.item() / memory.checks.item() == pytest.approx(0.5, abs=0.05)


def test_a_memory_without_a_past_is_refused():
    with pytest.raises(ConfigError, match="must exceed latents_per_chunk 3"):
        MemoryConfig(num_fast=3, latents_per_chunk=3)


@pytest.mark.parametrize(
    "change",
    [
        {"num_slow": -1},
        {"consolidate_every": 0},
        {"target_rate": 1.5},
        {"target_rate": -0.5},
        {"threshold": math.nan},
        {"adaptation": -3.0},
        {"adaptation": math.inf},
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]):
    (name, value), *_ = change.items()
    with pytest.raises(ConfigError, match=f"{name}.*got {value}|got {name}={value}"):
        MemoryConfig(**change)


def test_the_nominal_span_counts_what_slow_memory_reaches_back_to():
    config = MemoryConfig(num_sink=2, num_slow=8, num_fast=7, consolidate_every=24)
    assert config.nominal_span(0.75) == pytest.approx(2 + 7 + 8 * 24 / 0.75)
    assert MemoryConfig(num_sink=1, num_slow=0, num_fast=6).nominal_span() == 7
    longer = MemoryConfig(num_sink=3, num_slow=2, num_fast=9, latents_per_chunk=3, consolidate_every=4)
    assert longer.nominal_span() == 3 + 9 + 2 * 4 * 3, "it counts latents, and the interval chunks"
    assert longer.nominal_span(0.0) > 1e9, "without promotions nothing is ever dropped"


def test_a_memory_that_follows_anothers_decisions_holds_the_same_latents_whatever_its_own_keys():
    """Opposite keys would decide otherwise; the leader's decisions, imposed, give the same slots."""
    config = MemoryConfig(num_sink=1, num_slow=3, num_fast=3, consolidate_every=2, threshold=0.5)
    leader = follower = empty_memory(config, numbered_chunk(0, config))
    for chunk in range(20):
        new = numbered_chunk(chunk * chunk, config)
        before = leader.promotions
        leader = commit(leader, config, new)
        same = dataclasses.replace(new, keys=torch.ones_like(new.keys))
        follower = commit(follower, config, same, leader.promotions > before)
    assert 0 < leader.promotions.item() < 10
    assert torch.equal(follower.source, leader.source)
    assert torch.equal(follower.promotions, leader.promotions)
    assert follower.checks.item() == 0
