from dataclasses import replace

import numpy as np
import pytest

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.controls import make_control
from cfworld.metrics.fidelity import FidelityConfig, _bars, fidelity, fidelity_steps, tick_count
from cfworld.metrics.judgement import CEILING, LAST_FRAME, Judgement
from cfworld.metrics.recordings import held_out
from cfworld.metrics.rollouts import rollout, tokenizer_rollout
from tests.metrics.fakes import LONG, PerfectWorld

CONFIG = FidelityConfig(seconds=[0.1, 0.8, 1.6])


@pytest.fixture(scope="module")
def judged() -> Judgement:
    twin, world = PanoramaTwin(max_ticks=LONG), PerfectWorld()
    recordings = list(held_out(twin, 16, CONFIG.num_ticks(10, 4), prefix_ticks=8))
    steps = fidelity_steps(CONFIG, fps=10, per_step=4)
    worlds = {"perfect": world, **{n: make_control(n, world) for n in ("freeze", "loop", "blur", "shuffled")}}
    rollouts = {name: rollout(made, recordings, decode=steps, batch=10) for name, made in worlds.items()}
    return fidelity(rollouts, tokenizer_rollout(world, recordings, steps), recordings, CONFIG, fps=10)


def failed(judged: Judgement, name: str) -> set[str]:
    return {bar for bar, passed in judged.bars[name].items() if passed is False}


def test_the_twin_itself_passes_every_bar(judged: Judgement):
    assert failed(judged, "perfect") == set()
    assert sum(passed is True for passed in judged.bars["perfect"].values()) >= 9


def test_the_twin_itself_is_its_own_ceiling(judged: Judgement):
    predictors = judged.figures["predictors"]
    assert predictors["perfect"] == predictors[CEILING]
    assert [interval.mean for interval in predictors["perfect"]["ssim"]] == pytest.approx([1, 1, 1], abs=1e-4)
    assert {interval.mean for interval in predictors["perfect"]["motion_ratio"]} == {1.0}


def test_a_frozen_world_is_the_last_frame_repeated_and_does_not_beat_it(judged: Judgement):
    predictors = judged.figures["predictors"]
    assert predictors["freeze"] == predictors[LAST_FRAME]
    assert {"beats the last frame on moving pixels at 0.8 s", "moves as much as the twin at 0.8 s"} <= failed(
        judged, "freeze"
    )


def test_a_loop_of_real_frames_does_not_beat_the_last_frame(judged: Judgement):
    assert {f"beats the last frame on moving pixels at {t} s" for t in (0.1, 0.8, 1.6)} <= failed(judged, "loop")
    assert "as sharp as the twin at 0.8 s" not in failed(judged, "loop")


def test_a_blurred_twin_is_not_sharp_however_high_its_psnr(judged: Judgement):
    assert {f"as sharp as the twin at {t} s" for t in (0.1, 0.8, 1.6)} <= failed(judged, "blur")
    assert "beats the last frame on moving pixels at 0.8 s" not in failed(judged, "blur")


def test_the_wrong_actions_do_not_beat_the_last_frame(judged: Judgement):
    assert "beats the last frame on all pixels at 0.8 s" in failed(judged, "shuffled")


def test_gains_are_paired_with_the_last_frame(judged: Judgement):
    predictors = judged.figures["predictors"]
    for i in range(3):
        difference = predictors["loop"]["psnr"][i].mean - predictors[LAST_FRAME]["psnr"][i].mean
        assert predictors["loop"]["psnr_gain"][i].mean == pytest.approx(difference)
    assert {interval.mean for interval in predictors[LAST_FRAME]["psnr_gain"]} == {0.0}


def test_starts_whose_episode_has_ended_do_not_count():
    twin, world = PanoramaTwin(max_ticks=LONG), PerfectWorld()
    recordings = list(held_out(twin, 4, CONFIG.num_ticks(10, 4), prefix_ticks=8))
    recordings[0] = replace(recordings[0], end=8)
    steps = fidelity_steps(CONFIG, 10, 4)
    made = {"perfect": rollout(world, recordings, decode=steps)}
    figures = fidelity(made, tokenizer_rollout(world, recordings, steps), recordings, CONFIG, 10).figures
    assert [i.count for i in figures["predictors"]["perfect"]["psnr"]] == [4, 4, 3]


def test_a_time_is_the_frame_after_so_many_ticks():
    assert [tick_count(t, 35) for t in (0.01, 0.1, 0.5, 1.0, 5.0)] == [1, 4, 18, 35, 175]
    assert FidelityConfig(seconds=[5.0]).num_ticks(35, 4) == 176
    assert fidelity_steps(FidelityConfig(seconds=[1.0]), 10, 4) == {1, 2}


@pytest.mark.parametrize("seconds", [[], [0.0], [1.0, 0.5], [1.0, 1.0]])
def test_times_must_rise_from_above_zero(seconds: list[float]):
    with pytest.raises(ConfigError, match="rising times"):
        FidelityConfig(seconds=seconds)


def test_figures_do_not_depend_on_how_rows_are_batched(judged: Judgement):
    twin, world = PanoramaTwin(max_ticks=LONG), PerfectWorld()
    recordings = list(held_out(twin, 5, 8, prefix_ticks=8))
    whole, parts = (rollout(world, recordings, batch=batch) for batch in (5, 2))
    assert np.array_equal(whole.at(range(8)), parts.at(range(8)))
    assert np.array_equal(whole.at(range(8)), np.stack([recording.frames for recording in recordings]))


def figures_of(psnr: float, energy: float) -> dict[str, list[Interval]]:
    psnr, energy = float(psnr), float(energy)
    likeness = [Interval(mean=psnr, low=psnr - 1, high=psnr + 1, count=8)]
    ratio = [Interval(mean=energy, low=energy - 0.4, high=energy + 0.4, count=8)]
    return {"psnr": likeness, "moving_psnr": likeness, "sharpness_ratio": ratio, "motion_ratio": ratio}


@pytest.mark.parametrize(
    ("energy", "passed"), [(0.69, False), (0.71, True), (1.0, True), (1.29, True), (1.31, False), (np.nan, None)]
)
def test_the_mean_energy_must_be_that_of_the_twin_within_30_percent(energy: float, passed: bool | None):
    bars = _bars(figures_of(30, energy), figures_of(20, 1), figures_of(40, 1), [1.0])
    assert bars["as sharp as the twin at 1 s"] is passed
    assert bars["moves as much as the twin at 1 s"] is passed


@pytest.mark.parametrize(("psnr", "passed"), [(21.9, False), (22.1, True)])
def test_psnr_beats_the_last_frame_only_where_the_intervals_do_not_overlap(psnr: float, passed: bool):
    bars = _bars(figures_of(psnr, 1), figures_of(20, 1), figures_of(40, 1), [1.0])
    assert bars["beats the last frame on all pixels at 1 s"] is passed
    assert bars["beats the last frame on moving pixels at 1 s"] is passed
