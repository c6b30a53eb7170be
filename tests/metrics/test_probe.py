from dataclasses import replace

import numpy as np
import pytest

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig
from cfworld.metrics.controls import make_control
from cfworld.metrics.probe import Effects, ProbeConfig, memory_span, probe, run_probe, slot_effects
from cfworld.metrics.recordings import FIRST_SEED
from tests.metrics.fakes import LONG
from tests.toy import toy_world

KINDS = ["sink", "slow", "slow", "fast", "fast"]


def effects(sizes: list[float], ages: list[float], rows: int = 1) -> Effects:
    return Effects(sizes=np.array([sizes] * rows).T, ages=np.array([ages] * rows).T, kinds=KINDS)


def test_the_span_is_the_oldest_age_that_still_has_a_tenth_of_the_newest_effect():
    ages = [60.0, 20.0, 10.0, 2.0, 1.0]
    assert memory_span(effects([9.0, 0.11, 0.5, 0.9, 1.0], ages)).tolist() == [20.0]
    assert memory_span(effects([9.0, 0.09, 0.5, 0.9, 1.0], ages)).tolist() == [10.0]
    assert memory_span(effects([9.0, 0.0, 0.0, 0.05, 1.0], ages)).tolist() == [1.0]


def test_empty_slots_have_no_age():
    nan = np.nan
    assert memory_span(effects([9.0, nan, nan, 0.9, 1.0], [60.0, nan, nan, 2.0, 1.0])).tolist() == [2.0]


def test_without_a_fast_slot_there_is_nothing_to_measure_a_span_by():
    nan = np.nan
    assert np.isnan(memory_span(effects([1.0, 0.5, 0.5, nan, nan], [60.0, 20.0, 10.0, nan, nan]))).all()


def test_a_memory_beyond_the_fast_one_passes_and_a_window_fails():
    ages = [60.0, 20.0, 10.0, 2.0, 1.0]
    sizes = {"long": [1.0, 0.5, 0.5, 1.0, 1.0], "window": [1.0, 0.0, 0.0, 1.0, 1.0]}
    found = {name: effects(each, ages, rows=2) for name, each in sizes.items()}
    judged = probe(found, {"long": 2.0, "window": 2.0})
    assert set(judged.bars["long"].values()) == {True}
    assert set(judged.bars["window"].values()) == {False}


def test_swapping_a_slot_changes_the_next_chunk_only_where_it_is_filled():
    world = toy_world()
    state, _ = world.initial(seeds=[1, 2, 3], starts=[0, 1, 2])
    for step in range(3):
        state, _ = world.step(state, np.full(3, step % 3), decode=False)
    found = slot_effects(world, state, np.zeros(3, np.int64))
    filled = state.memory.valid.T.numpy()
    assert np.array_equal(~np.isnan(found.sizes), filled)
    assert (found.sizes[filled] > 0).all()
    assert found.ages[filled].max() == pytest.approx(5 * 4 / 10)  # the first latent of two, three steps ago


def test_rows_that_remember_the_same_are_not_changed_by_a_swap():
    world = toy_world()
    state, _ = world.initial(seeds=[1])
    found = slot_effects(world, state.select([0, 0]), np.zeros(2, np.int64))
    assert np.nanmax(found.sizes) == 0


def test_controls_have_no_memory_to_probe():
    world = toy_world()
    worlds = {"world": world, "freeze": make_control("freeze", world)}
    twin = PanoramaTwin(max_ticks=LONG)
    judged = run_probe(worlds, twin, ProbeConfig(seconds=1.2, starts=2), 8, FIRST_SEED)
    assert list(judged.bars) == ["world"]


def test_a_world_without_slow_memory_does_not_reach_beyond_the_fast_one():
    world = toy_world(memory=MemoryConfig(num_sink=0, num_slow=0, num_fast=3))
    twin = PanoramaTwin(max_ticks=LONG)
    judged = run_probe({"world": world}, twin, ProbeConfig(seconds=4.0, starts=2), 8, FIRST_SEED)
    assert set(judged.bars["world"].values()) == {False}
    assert judged.figures["span_seconds"]["world"].mean <= judged.figures["fast_seconds"]["world"]


def test_a_probe_needs_two_rows_to_swap_between():
    with pytest.raises(ConfigError, match="at least 2"):
        ProbeConfig(starts=1)
    assert replace(ProbeConfig(), seconds=0.0).seconds == 0
