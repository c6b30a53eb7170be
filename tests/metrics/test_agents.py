"""Comparison of agents: pairs, ranks and the table, with answers known in advance."""

import numpy as np
import pytest

from cfworld.agents.evaluate import Scores
from cfworld.metrics.agents import PolicyScores, agent_figures, agent_table, paired_difference, rank_correlation


def scores(*returns: float) -> Scores:
    count = len(returns)
    return Scores(returns=np.array(returns, float), ticks=np.arange(count), ended=np.arange(count) > 0)


def test_a_paired_difference_is_that_of_the_same_seeds() -> None:
    difference = paired_difference(scores(10, 200, 3000), scores(9, 199, 2999))
    assert (difference.mean, difference.low, difference.high) == (1, 1, 1)
    assert paired_difference(scores(10, 200), scores(9, 199, 0)).count == 2


def test_ranks_count_and_distances_do_not() -> None:
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([1.0, 10, 1000])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 1, 2]), np.array([1.0, 2, 3])) == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(rank_correlation(np.array([1.0, 1]), np.array([1.0, 2])))


def test_a_single_episode_tells_of_no_spread() -> None:
    found = [PolicyScores(policy=name, places={"twin": scores(value)}) for name, value in (("a", 7), ("b", 9))]
    table = agent_table(agent_figures(found, ["a"]), ["a"], {})
    assert "| b | - | - | 9.0 | - | 1.00 |" in table
    assert "| b | +2.0 |" in table
    assert "nan" not in table


def test_ranks_that_are_all_the_same_have_no_correlation() -> None:
    places = [{"dream": scores(5, 5), "twin": scores(value, 0)} for value in (1, 2)]
    figures = agent_figures([PolicyScores(policy=name, places=p) for name, p in zip("ab", places, strict=True)], [])
    assert "nan" not in agent_table(figures, [], {})


def test_the_table_says_who_is_better_than_whom_and_bold_where_that_is_sure() -> None:
    found = [
        PolicyScores(policy="low", places={"dream": scores(1, 2), "twin": scores(10, 20)}),
        PolicyScores(policy="high", places={"dream": scores(3, 4), "twin": scores(15, 25)}),
        PolicyScores(policy="mixed", places={"twin": scores(0, 40)}),
    ]
    figures = agent_figures(found, ["low"])
    assert figures["rank_correlation"] == {"value": pytest.approx(1), "policies": 2}
    assert figures["policies"]["high"]["twin"]["score"].mean == 20
    assert figures["policies"]["high"]["twin"]["sd"] == pytest.approx(np.sqrt(50))
    assert figures["policies"]["high"]["twin"]["cut_off"] == 0.5
    table = agent_table(figures, ["low"], {"world": "toy"})
    assert "- world: toy" in table
    assert "| high | **+5.0 [+5.0, +5.0]** |" in table
    assert "| low | - |" in table
    assert "| mixed | +5.0 [-10.0, +20.0] |" in table
    assert "| mixed | - | - | 20.0 [0.0, 40.0] | 28 | 0.50 |" in table
    assert "over 2 policies: 1.00" in table
