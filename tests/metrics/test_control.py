import numpy as np
import pytest
from gymnasium import spaces

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.control import (
    ControlConfig,
    _passed,
    control,
    distances,
    motion_descriptor,
    probe_actions,
    run_control,
)
from cfworld.metrics.controls import make_control
from cfworld.metrics.judgement import Judgement
from cfworld.metrics.recordings import held_out
from tests.metrics.fakes import LONG, PerfectWorld


@pytest.fixture(scope="module")
def judged() -> Judgement:
    twin, world = PanoramaTwin(max_ticks=LONG), PerfectWorld()
    recordings = list(held_out(twin, 8, 4, prefix_ticks=8))
    names = ("freeze", "loop", "blur", "shuffled")
    worlds = {"perfect": world, **{name: make_control(name, world) for name in names}}
    return run_control(worlds, twin, recordings, ControlConfig(seconds=0.8))


def test_the_twin_itself_is_always_right(judged: Judgement):
    assert judged.figures["share"]["perfect"].mean == 1
    assert np.array_equal(judged.figures["confusion"]["perfect"], np.eye(3))


def test_blur_does_not_hide_what_moved(judged: Judgement):
    assert judged.figures["share"]["blur"].mean > 0.95


@pytest.mark.parametrize("name", ["freeze", "loop", "shuffled"])
def test_worlds_that_do_not_listen_fail(judged: Judgement, name: str):
    assert set(judged.bars[name].values()) == {False}
    assert set(judged.bars["perfect"].values()) == {True}


def test_what_ignores_the_action_is_right_as_often_as_chance(judged: Judgement):
    assert judged.figures["share"]["freeze"].mean == pytest.approx(1 / 3)
    assert judged.figures["share"]["loop"].mean == pytest.approx(1 / 3)


def frames(*batch: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (*batch, 16, 16, 3)).astype(np.uint8)


def test_a_drift_of_brightness_is_not_motion():
    made = frames(2, 3, 5)
    before = frames(2, 3)
    brighter = made + np.uint8(50)
    assert motion_descriptor(brighter, before) == pytest.approx(motion_descriptor(made, before), abs=1e-5)


def test_distances_compare_every_action_made_with_every_true_one():
    made, truth = np.array([[[0.0, 0.0], [3.0, 4.0]]]), np.array([[[0.0, 0.0], [0.0, 1.0]]])
    expected = np.array([[[0, 1], [5, np.sqrt(18)]]]) / np.sqrt(2)
    assert distances(made, truth) == pytest.approx(expected)


def test_starts_where_the_actions_look_alike_or_end_do_not_count():
    truth = frames(3, 2, 4)
    truth[0, 1] = truth[0, 0]
    alive = np.array([True, True, False])
    judged = control({"world": truth, "tokenizer": truth}, truth, frames(3), alive, ["a", "b"])
    assert judged.figures["starts_that_differ"] == 1
    assert judged.figures["share"]["world"].count == 1


def test_nothing_is_judged_where_no_start_counts():
    truth = frames(3, 2, 4)
    judged = control({"world": truth, "tokenizer": truth}, truth, frames(3), np.zeros(3, bool), ["a", "b"])
    assert set(judged.bars["world"].values()) == {None}


def test_all_discrete_actions_are_held_and_both_ends_of_every_axis():
    assert probe_actions(spaces.Discrete(3)).tolist() == [0, 1, 2]
    box = spaces.Box(np.array([-1.0, 2.0], np.float32), np.array([1.0, 4.0], np.float32))
    assert probe_actions(box).tolist() == [[0, 2], [-1, 2], [1, 2], [0, 2], [0, 4]]


def test_other_action_spaces_are_refused():
    with pytest.raises(ConfigError, match="expected Discrete or Box"):
        probe_actions(spaces.MultiBinary(2))


@pytest.mark.parametrize(
    ("share", "low", "ceiling", "passed"),
    [(0.96, 0.9, 1.0, True), (0.94, 0.9, 1.0, False), (0.76, 0.7, 0.8, True), (0.75, 0.7, 0.8, False)],
)
def test_control_must_reach_95_percent_of_its_ceiling(share: float, low: float, ceiling: float, passed: bool):
    best = Interval(mean=ceiling, low=ceiling, high=ceiling, count=8)
    assert _passed(Interval(mean=share, low=low, high=1.0, count=8), best, 1 / 3) is passed


def test_control_is_not_judged_where_the_ceiling_is_no_better_than_chance():
    chance = Interval(mean=0.4, low=0.3, high=0.5, count=8)
    assert _passed(chance, chance, 1 / 3) is None
    best = Interval(mean=0.41, low=0.35, high=0.5, count=8)
    assert _passed(chance, best, 1 / 3) is False
