import numpy as np

from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.effective_context import effective_context, judge_routes
from cfworld.metrics.judgement import CEILING, CHANCE
from cfworld.metrics.recall import Scores

TIMES = [1.0, 2.0, 3.0, 4.0]


def around(mean: float, half: float = 0.1) -> Interval:
    return Interval(mean=mean, low=mean - half, high=mean + half, count=9)


GUESS, FULL = around(0.0, 0.0), around(1.0, 0.0)


def context(recalls: list[Interval], *baselines: list[Interval], ceiling: Interval = FULL) -> float:
    """ECL over as many of `TIMES` as there are recalls."""
    times = TIMES[: len(recalls)]
    rivals = list(zip(*baselines, strict=True)) if baselines else [()] * len(times)
    return effective_context(times, recalls, rivals, [ceiling] * len(times), [GUESS] * len(times))


def test_effective_context_is_the_last_time_of_the_first_unbroken_run():
    good, bad = around(0.9), around(0.4)
    assert context([good, good, bad, good]) == 2
    assert context([good] * 4) == 4
    assert context([bad] * 4) == 0


def test_the_lower_bound_must_exceed_the_midpoint():
    assert context([around(0.61)]) == 1
    assert context([around(0.59)]) == 0
    assert context([around(0.61)], [around(0.2, 0.0)]) == 0, "0.51 is not above (0.2 + 1) / 2"


def test_the_best_baseline_counts_and_chance_where_it_is_better():
    low, high = around(0.2, 0.0), around(0.6, 0.0)
    assert context([around(0.75)], [low]) == 1
    assert context([around(0.75)], [low], [high]) == 0
    worse_than_chance = effective_context([1.0], [around(0.65)], [[around(0.0, 0.0)]], [FULL], [around(0.5, 0.0)])
    assert worse_than_chance == 0, "0.55 is not above (0.5 + 1) / 2"


def test_a_time_that_the_baseline_still_covers_tells_nothing_and_does_not_end_the_run():
    short = [FULL, around(0.1), around(0.1), around(0.1)]
    assert context([FULL] * 4, short) == 4
    assert context([around(0.5), FULL, FULL, FULL], short) == 0


def test_a_ceiling_that_is_no_better_than_guessing_excuses_nobody():
    blind = around(0.0, 0.0)
    assert context([blind], [blind], ceiling=blind) == 0


def test_figures_that_could_not_be_measured_end_the_run():
    nothing = mean_interval(np.full(3, np.nan))
    assert context([nothing]) == 0
    assert context([FULL, nothing, FULL]) == 1


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
    assert "the best baseline, or of chance where it is no better" in judged.tables[0].note


def test_without_routes_that_leave_and_return_there_is_no_context_to_speak_of():
    found = {"world": scores(1, 25), CEILING: scores(1, 30), CHANCE: scores(0, 10)}
    judged = judge_routes({"full turn": found}, {}, ["world"])
    assert judged.figures["effective_context_seconds"] == {"world": None}
    assert judged.bars["world"]["effective context of 20 s"] is None
