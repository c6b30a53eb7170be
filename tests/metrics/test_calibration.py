from dataclasses import replace

import numpy as np
import pytest

from cfworld.metrics.calibration import (
    Calibration,
    calibration,
    expected_calibration_error,
    heads,
    reward_figures,
    step_hazard,
)
from cfworld.metrics.controls import make_control
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import Rollout, rollout
from tests.metrics.fakes import LONG, MortalTwin, PerfectWorld


@pytest.fixture(scope="module")
def recordings() -> list[Recording]:
    return list(held_out(MortalTwin(max_ticks=LONG), 12, 80, prefix_ticks=8, latest_start=16))


def world() -> PerfectWorld:
    return PerfectWorld(MortalTwin)


def test_a_perfect_head_passes_and_a_dead_one_fails(recordings: list[Recording]):
    worlds = {"perfect": world(), "immortal": make_control("immortal", world())}
    made = {name: rollout(each, recordings, decode=set()) for name, each in worlds.items()}
    judged = heads(made, recordings, per_step=4)
    assert set(judged.bars["perfect"].values()) == {True}
    assert set(judged.bars["immortal"].values()) == {False}
    figures = judged.figures["worlds"]
    assert figures["perfect"]["reward_error"].mean == 0
    assert figures["perfect"]["expected_calibration_error"] == 0
    assert figures["perfect"]["ends_expected"] == judged.figures["ends"] == 12
    assert figures["perfect"]["log_loss"] < figures["perfect"]["constant_log_loss"] < figures["immortal"]["log_loss"]


def test_what_happens_after_the_twins_end_does_not_count(recordings: list[Recording]):
    made = rollout(world(), recordings, decode=set())
    after = np.arange(80) > np.array([r.end for r in recordings])[:, None]
    whole_steps = after.reshape(12, 20, 4).all(axis=2).repeat(4, axis=1)
    wild = replace(
        made, rewards=np.where(after, np.float32(99), made.rewards), hazards=np.where(whole_steps, 1, made.hazards)
    )
    judged = heads({"made": made, "wild": wild}, recordings, 4)
    assert judged.figures["worlds"]["made"]["reward_error"] == judged.figures["worlds"]["wild"]["reward_error"]
    assert judged.figures["worlds"]["made"]["log_loss"] == judged.figures["worlds"]["wild"]["log_loss"]


def test_few_ends_are_not_judged(recordings: list[Recording]):
    unscathed = [replace(recording, end=80) for recording in recordings]
    nothing = np.zeros((12, 80), np.float32)
    made = Rollout(frames={}, rewards=nothing, hazards=nothing)
    assert heads({"world": made}, unscathed, 4).bars["world"]["as many ends as in the twin"] is None


def test_the_hazard_of_a_step_is_that_of_any_of_its_ticks():
    assert step_hazard(np.array([[0.5, 0.5], [0.0, 0.0], [0.1, 1.0]])).tolist() == [0.75, 0.0, 1.0]


def test_the_calibration_error_is_the_weighted_distance_of_the_bins():
    predicted = np.repeat([0.1, 0.6], [60, 20])
    happened = np.concatenate([np.arange(60) < 12, np.arange(20) < 8])  # 0.2 and 0.4
    curve = calibration(predicted, happened, quantiles=(0.25, 0.5, 0.75))
    assert curve.counts.tolist() == [60, 20]
    assert curve.predicted == pytest.approx([0.1, 0.6])
    assert curve.observed == pytest.approx([0.2, 0.4])
    assert expected_calibration_error(curve) == pytest.approx((60 * 0.1 + 20 * 0.2) / 80)


def test_a_bin_in_which_nothing_happened_has_an_interval_all_the_same():
    """Of 100 trials without an event at most 0.037 is likely, of 100 with nothing else at least 0.963 (Wilson)."""
    curve = Calibration(predicted=np.zeros(3), observed=np.array([0, 0.5, 1]), counts=np.full(3, 100.0))
    low, high = curve.bounds()
    assert low == pytest.approx([0, 0.404, 0.963], abs=5e-4)
    assert high == pytest.approx([0.037, 0.596, 1], abs=5e-4)


def test_events_drawn_from_their_probabilities_are_calibrated():
    rng = np.random.default_rng(0)
    predicted = rng.random(50_000) * 0.1
    curve = calibration(predicted, rng.random(50_000) < predicted)
    assert len(curve.counts) == 12
    assert expected_calibration_error(curve) < 0.004
    assert expected_calibration_error(calibration(predicted * 3, rng.random(50_000) < predicted)) > 0.05


def test_equal_predictions_make_one_bin():
    curve = calibration(np.zeros(10), np.arange(10) < 1)
    assert curve.counts.tolist() == [10]
    assert curve.observed.tolist() == [0.1]


def test_rare_rewards_are_told_from_a_constant_by_what_is_gained():
    """A reward of 1 in one tick of 200: tiny errors everywhere, and yet nothing gained by saying 0."""
    rewards = np.zeros((10, 200), np.float32)
    rewards[:, 100] = 1
    counted = np.ones_like(rewards, bool)
    constant = reward_figures(np.full_like(rewards, 0.005), rewards, counted)
    assert constant["constant_error"].mean == pytest.approx(0.005 * 0.995)
    assert constant["reward_gain"].mean == pytest.approx(0, abs=1e-9)
    dead = reward_figures(np.zeros_like(rewards), rewards, counted)
    assert dead["reward_gain"].high < 0
    knowing = reward_figures(0.5 * rewards, rewards, counted)
    assert knowing["reward_gain"].low > 0


def test_a_gain_must_be_sure(recordings: list[Recording]):
    """Half of the episodes gain 0.24, the others lose 0.17."""
    rewards = np.tile(np.array([0.0, 1.0], np.float32), 40)
    rows = [replace(recording, rewards=rewards, end=80) for recording in recordings]
    said = np.full((12, 80), 0.5, np.float32) + np.where(rewards == 1, 1, -1) * np.repeat([0.4, -0.15], 6)[:, None]
    nothing = np.zeros((12, 80), np.float32)
    judged = heads({"split": Rollout(frames={}, rewards=said.astype(np.float32), hazards=nothing)}, rows, 4)
    gain = judged.figures["worlds"]["split"]["reward_gain"]
    assert gain.low < 0 < gain.mean
    assert judged.bars["split"]["reward better than a constant"] is False


def test_a_dead_head_does_not_pass_where_rewards_are_rare(recordings: list[Recording]):
    rewards = np.zeros(80, np.float32)
    rewards[::40] = 0.05  # below the tolerance, on average
    rare = [replace(recording, rewards=rewards, end=80) for recording in recordings]
    nothing, truth = np.zeros((12, 80), np.float32), np.tile(rewards, (12, 1))
    worlds = {
        name: Rollout(frames={}, rewards=made, hazards=nothing) for name, made in (("dead", nothing), ("knows", truth))
    }
    bars = heads(worlds, rare, 4).bars
    assert [bars[name]["reward better than a constant"] for name in worlds] == [False, True]
