import numpy as np

from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.effective_context import effective_context, judge_routes
from cfworld.metrics.judgement import CEILING, CHANCE
from cfworld.metrics.recall import Scores

TIMES = [1.0, 2.0, 3.0, 4.0]


def around(mean: float, half: float = 0.1) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half, count=9)


def test_effective_context_is_the_last_time_of_the_first_unbroken_run():
    good, bad = around(0.9), around(0.4)
    floor, ceiling = [around(0.1)] * 4, [around(0.9)] * 4
    assert effective_context(TIMES, [good, good, bad, good], floor, ceiling) == 2
    assert effective_context(TIMES, [good] * 4, floor, ceiling) == 4
    assert effective_context(TIMES, [bad] * 4, floor, ceiling) == 0


def test_the_lower_bound_must_exceed_the_midpoint():
    floor, ceiling = [around(0.0, 0.0)], [around(1.0, 0.0)]
    assert effective_context([1.0], [around(0.61)], floor, ceiling) == 1
    assert effective_context([1.0], [around(0.59)], floor, ceiling) == 0


def test_a_time_that_the_baseline_still_covers_tells_nothing_and_does_not_end_the_run():
    full = around(1.0, 0.0)
    floor, ceiling = [full, around(0.1), around(0.1), around(0.1)], [full] * 4
    assert effective_context(TIMES, [full] * 4, floor, ceiling) == 4
    assert effective_context(TIMES, [around(0.5), full, full, full], floor, ceiling) == 0


def test_figures_that_could_not_be_measured_end_the_run():
    nothing = mean_interval(np.full(3, np.nan))
    assert effective_context([1.0], [nothing], [around(0.1)], [around(0.9)]) == 0


def scores(recalled: float, psnr: float) -> Scores:
    values = np.full(4, 1.0)
    return Scores(recalled=recalled * values, psnr=psnr * values, moved=values)


def test_worlds_are_set_against_baselines_and_baselines_against_chance():
    found = {"world": scores(0.8, 25), "baseline": scores(0.7, 24), CEILING: scores(1, 30), CHANCE: scores(0, 10)}
    judged = judge_routes({"away for 3 s": found}, {"away for 3 s": 3.0}, ["world", "baseline"], ["baseline"])
    assert judged.figures["effective_context_seconds"] == {"world": 0, "baseline": 3}
    assert judged.figures["floor"] == ["baseline"]
    assert judged.bars["world"]["recalls the view after away for 3 s"] is False
    assert judged.bars["baseline"]["recalls the view after away for 3 s"] is True
    assert judged.bars["world"]["beats baseline at every time away of 2 s or more"] is True
    assert judged.bars["world"]["effective context of 20 s"] is False
    assert "the best baseline (for a baseline itself, of chance)" in judged.tables[0].note


def test_without_routes_that_leave_and_return_there_is_no_context_to_speak_of():
    found = {"world": scores(1, 25), CEILING: scores(1, 30), CHANCE: scores(0, 10)}
    judged = judge_routes({"full turn": found}, {}, ["world"])
    assert judged.figures["effective_context_seconds"] == {"world": None}
    assert judged.bars["world"]["effective context of 20 s"] is None
