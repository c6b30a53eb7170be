import numpy as np
import pytest

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.controls import make_control
from cfworld.metrics.judgement import Judgement
from cfworld.metrics.recall import MAX_SHIFT, Returned, effective_context, has_moved, judge_routes, retrieved
from cfworld.metrics.recordings import FIRST_SEED
from cfworld.metrics.routes import RecallConfig, run_recall
from tests.metrics.fakes import LONG, PANORAMA, PerfectWorld


@pytest.fixture(scope="module")
def judged() -> Judgement:
    world = PerfectWorld(god=True)
    worlds = {"perfect": world}
    worlds |= {name: make_control(name, world) for name in ("freeze", "loop", "shuffled")}
    config = RecallConfig(away=[6.4], starts=8)
    twin = PanoramaTwin(max_ticks=LONG)
    return run_recall(worlds, twin, PANORAMA, config, prefix_ticks=32, first_seed=FIRST_SEED)


def test_the_twin_itself_recalls_everything(judged: Judgement):
    assert set(judged.bars["perfect"].values()) == {True}
    for figures in judged.figures["routes"].values():
        assert figures["perfect"]["recalled"].mean == 1
        assert figures["perfect"]["psnr"].mean == 60
        assert figures["perfect"]["psnr_departed"].mean == 60  # the camera is back at the same pose
    assert judged.figures["effective_context_seconds"]["perfect"] == 6.4


@pytest.mark.parametrize("name", ["freeze", "loop", "shuffled"])
def test_a_world_that_did_not_leave_as_driven_has_not_returned(judged: Judgement, name: str):
    assert set(judged.bars[name].values()) == {False}
    assert judged.figures["effective_context_seconds"][name] == 0


def test_standing_still_shows_the_right_view_and_still_does_not_count(judged: Judgement):
    figures = judged.figures["routes"]["full turn"]["freeze"]
    assert figures["psnr"].mean == 60
    assert figures["recalled"].mean == figures["moved"].mean == 0


def views(*batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*batch, 8, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("shift", [-MAX_SHIFT, 0, MAX_SHIFT])
def test_a_shifted_view_is_still_found(shift: int):
    candidates = views(3, 5)
    assert retrieved(np.roll(candidates[:, 2], shift, axis=2), candidates).tolist() == [2, 2, 2]


def test_a_view_that_is_shifted_too_far_is_not_found():
    candidates = np.stack([views(1), np.roll(views(1), 2 * MAX_SHIFT, axis=2), views(1, seed=3)], axis=1)
    shifted = np.roll(candidates[:, 0], MAX_SHIFT + 1, axis=2)
    assert retrieved(shifted, candidates).tolist() == [1]


def test_a_camera_moved_as_driven_when_most_of_its_steps_did():
    ring = views()
    driven = np.stack([np.roll(ring, -2 * i, axis=1) for i in range(1, 9)])[None]
    truth = Returned(departed=ring[None], track=driven)
    one_late = driven.copy()
    one_late[0, 3] = np.roll(driven[0, 3], 10, axis=1)  # two steps of eight are wrong
    two_late = one_late.copy()
    two_late[0, 6] = np.roll(driven[0, 6], 10, axis=1)
    assert has_moved(truth, truth).tolist() == [True]
    assert has_moved(Returned(departed=ring[None], track=one_late), truth).tolist() == [True]
    assert has_moved(Returned(departed=ring[None], track=two_late), truth).tolist() == [False]


def test_effective_context_is_the_last_time_of_the_first_unbroken_run():
    good, bad = (Interval(mean=m, low=m - 0.1, high=m + 0.1, count=9) for m in (0.9, 0.4))
    floor, ceiling = [0.1] * 4, [0.9] * 4
    assert effective_context([1.0, 2.0, 3.0, 4.0], [good, good, bad, good], floor, ceiling) == 2
    assert effective_context([1.0, 2.0, 3.0, 4.0], [good] * 4, floor, ceiling) == 4
    assert effective_context([1.0, 2.0, 3.0, 4.0], [bad] * 4, floor, ceiling) == 0


def test_a_baseline_stands_in_for_chance():
    half, full = mean_interval(np.full(4, 0.5)), mean_interval(np.ones(4))
    shown = {"psnr": full, "moved": full, "psnr_departed": full}
    route = {name: {"recalled": half, **shown} for name in ("world", "baseline")}
    route |= {"tokenizer": {"recalled": full, **shown}, "chance": {"recalled": mean_interval(np.zeros(4)), **shown}}
    judged = judge_routes({"full turn": route}, {}, ["world", "baseline"])
    assert judged.figures["floor"] == "baseline"
    assert judged.bars["world"]["recalls the view after full turn"] is False


def test_a_twin_that_nobody_can_turn_around_is_refused():
    with pytest.raises(ConfigError, match="no way to turn"):
        run_recall({}, PanoramaTwin(), "cfworld/DoomTakeCoverReal-v0", RecallConfig(), 8, FIRST_SEED)


@pytest.mark.parametrize("settings", [{"away": [0.0]}, {"away": [], "full_turn": False}, {"starts": 0}])
def test_settings_that_measure_nothing_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="recall has"):
        RecallConfig(**settings)
