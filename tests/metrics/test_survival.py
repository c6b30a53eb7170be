import numpy as np
import pytest

from cfworld.errors import ConfigError
from cfworld.metrics.controls import make_control
from cfworld.metrics.recordings import FIRST_SEED, held_out
from cfworld.metrics.survival import (
    Lifetimes,
    SurvivalConfig,
    curve_distance,
    kaplan_meier,
    lifetimes,
    median_lifetime,
    run_survival,
    survival,
    twin_lifetimes,
)
from tests.metrics.fakes import LONG, MortalTwin, PerfectWorld


def lives(ticks: list[int], ended: list[bool]) -> Lifetimes:
    return Lifetimes(ticks=np.array(ticks), ended=np.array(ended))


def test_kaplan_meier_counts_those_that_were_cut_off_as_long_as_they_ran():
    times, share = kaplan_meier(lives([1, 2, 2, 3, 5], [True, True, False, True, False]))
    assert times.tolist() == [0, 1, 2, 3]
    assert share == pytest.approx([1, 0.8, 0.6, 0.3])


def test_the_median_is_where_the_curve_falls_to_a_half():
    assert median_lifetime(lives([1, 2, 3, 4], [True] * 4)) == 2
    assert np.isnan(median_lifetime(lives([1, 9, 9, 9], [True, False, False, False])))


def test_curves_differ_by_their_largest_gap():
    assert curve_distance(lives([5, 5], [True, True]), lives([5, 5], [True, True])) == 0
    assert curve_distance(lives([5, 5], [True, True]), lives([5, 9], [True, True])) == 0.5
    assert curve_distance(lives([5, 5], [True, True]), lives([9, 9], [False, False])) == 1


def test_a_perfect_world_lives_exactly_as_long_as_the_twin():
    recordings = list(held_out(MortalTwin(max_ticks=LONG), 10, 60, prefix_ticks=8, latest_start=0))
    ours, theirs = lifetimes(PerfectWorld(MortalTwin), recordings), twin_lifetimes(recordings)
    assert np.array_equal(ours.ticks, theirs.ticks)
    assert np.array_equal(ours.ended, theirs.ended)
    assert 0 < theirs.ended.sum() < 10
    assert set(theirs.ticks[~theirs.ended].tolist()) == {68}


def test_only_the_rows_that_still_run_are_stepped():
    recordings = list(held_out(MortalTwin(max_ticks=LONG), 6, 80, prefix_ticks=8, latest_start=0))
    stepped: list[int] = []
    found = lifetimes(PerfectWorld(MortalTwin), recordings, stepped.append)
    assert sum(stepped) == sum(-(-(tick - 8) // 4) for tick in found.ticks)


def test_a_world_without_ends_fails():
    world = PerfectWorld(MortalTwin)
    worlds = {"perfect": world, "immortal": make_control("immortal", world)}
    config = SurvivalConfig(policies=["sticky", "random"], starts=8, max_ticks=120)
    judged = run_survival(worlds, MortalTwin(max_ticks=LONG), config, prefix_ticks=8, first_seed=FIRST_SEED)
    assert set(judged.bars["perfect"].values()) == {True}
    assert set(judged.bars["immortal"].values()) == {False}
    assert judged.figures["policies"]["sticky"]["perfect"]["curve_distance"] == 0


def test_a_twin_that_hardly_ever_ends_is_no_measure():
    alive = lives([50] * 8, [False] * 8)
    assert set(survival({"sticky": {"twin": alive, "world": alive}}, 50).bars["world"].values()) == {None}


@pytest.mark.parametrize("settings", [{"policies": []}, {"starts": 0}, {"max_ticks": 0}])
def test_settings_that_measure_nothing_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="survival has"):
        SurvivalConfig(**settings)
