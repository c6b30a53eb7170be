import numpy as np
import pytest

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.metrics.controls import make_control
from cfworld.metrics.drift import STATISTICS, DriftConfig, drift, run_drift, statistics
from cfworld.metrics.judgement import Judgement
from cfworld.metrics.recordings import FIRST_SEED
from tests.metrics.fakes import LONG, Discoloured, PerfectWorld


@pytest.fixture(scope="module")
def judged() -> list[Judgement]:
    world = PerfectWorld(god=True)
    worlds = {"perfect": world, "red": Discoloured(god=True)}
    worlds |= {name: make_control(name, world) for name in ("freeze", "blur")}
    config = DriftConfig(seconds=[6.0, 9.0], every=1.0, starts=4)
    return run_drift(worlds, PanoramaTwin(max_ticks=LONG), config, prefix_ticks=8, first_seed=FIRST_SEED)


def test_every_length_is_judged_at_its_own_end(judged: list[Judgement]):
    assert [judgement.metric for judgement in judged] == ["drift_6s", "drift_9s"]
    assert [judgement.figures["seconds"][-1] for judgement in judged] == [6.0, 8.8]


def test_the_twin_itself_does_not_drift(judged: list[Judgement]):
    for judgement in judged:
        assert set(judgement.bars["perfect"].values()) == {True}
        figures = judgement.figures["worlds"]["perfect"]
        assert {figures[name]["deviation"].mean for name in STATISTICS} == {0.0}


@pytest.mark.parametrize(("name", "statistic"), [("freeze", "motion"), ("blur", "sharpness"), ("red", "red")])
def test_each_kind_of_drift_fails_its_own_bar(judged: list[Judgement], name: str, statistic: str):
    assert judged[-1].bars[name][f"{statistic} as the twin's after 9s"] is False


def test_deviations_are_counted_in_the_twins_standard_deviations():
    truth = np.zeros((4, 6, len(STATISTICS)))
    truth[:2] = 2.0  # mean 1, standard deviation 1
    figures = drift({"world": truth + 3.0}, truth, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "6s").figures["worlds"]["world"]
    assert figures["red"]["deviation"].mean == 3.0
    assert figures["motion"]["ratio"].mean == 4.0


def test_only_the_last_third_of_the_moments_decides():
    truth = np.random.default_rng(0).random((4, 6, len(STATISTICS)))
    early, late = truth.copy(), truth.copy()
    early[:, :4] += 100
    late[:, 5] += 100
    judged = drift({"early": early, "late": late}, truth, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "6s")
    assert set(judged.bars["early"].values()) == {True}
    assert set(judged.bars["late"].values()) == {False}


def test_statistics_keep_rows_and_moments():
    windows = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 8, 8, 3)).astype(np.uint8)
    values = statistics(windows)
    assert values.shape == (2, 3, len(STATISTICS))
    assert values[1, 2] == pytest.approx(statistics(windows[1, 2]))


def test_moments_are_whole_steps_and_hold_every_length():
    config = DriftConfig(seconds=[7.0, 12.0], every=5.0)
    assert config.moments(fps=10, per_step=4) == [12, 18, 25, 30]


@pytest.mark.parametrize("settings", [{"seconds": []}, {"seconds": [1.0]}, {"every": 0.0}, {"starts": 1}])
def test_settings_that_measure_nothing_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="drift has"):
        DriftConfig(**settings)


def test_opposite_drifts_do_not_cancel():
    truth = np.zeros((4, 3, 6)) + np.array([-1.0, 1.0, -1.0, 1.0])[:, None, None]  # a spread of 1
    split = truth + np.array([20.0, -20.0, 20.0, -20.0])[:, None, None]
    judged = drift({"split": split, "same": truth}, truth, [1.0, 2.0, 3.0], "3s")
    colours = ["red", "green", "blue", "saturation"]
    assert [judged.bars["split"][f"{colour} as the twin's after 3s"] for colour in colours] == [False] * 4
    assert [judged.bars["same"][f"{colour} as the twin's after 3s"] for colour in colours] == [True] * 4
    found = judged.figures["worlds"]["split"]["red"]
    assert found["deviation"].mean == pytest.approx(0)
    assert found["distance"].mean == pytest.approx(20)
