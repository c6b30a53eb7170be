import numpy as np
import pytest

from cfworld.metrics.bootstrap import Interval, mean_interval, ratio_interval, resampled_pairs


def test_equal_values_leave_no_doubt():
    assert mean_interval(np.full(10, 3.5)) == Interval(mean=3.5, low=3.5, high=3.5, count=10)


def test_the_interval_of_a_mean_is_two_standard_errors_wide_on_each_side():
    """An interval of 90 % would be narrower by a sixth."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = mean_interval(values)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.08)
    assert interval.high + interval.low == pytest.approx(2 * values.mean(), rel=0.01)


def test_starts_that_do_not_count_are_left_out():
    assert mean_interval(np.array([1.0, np.nan, 1.0])) == mean_interval(np.ones(2))
    assert ratio_interval(np.array([2.0, np.nan, 2.0]), np.array([1.0, 5.0, 1.0])).mean == 2.0


def test_nothing_counted_is_not_a_number():
    interval = mean_interval(np.array([np.nan]))
    assert np.isnan(interval.mean)
    assert interval.count == 0


def test_shares_are_means_of_booleans():
    assert mean_interval(np.array([True, False, True, True])).mean == 0.75


def test_a_ratio_is_that_of_the_means_and_not_the_mean_of_the_ratios():
    interval = ratio_interval(np.array([1.0, 9.0]), np.array([1.0, 1.0]))
    assert interval.mean == 5.0
    assert ratio_interval(np.array([0.0, 3.0]), np.array([0.0, 1.0])).mean == 3.0


def test_a_ratio_to_nothing_is_not_a_number():
    assert np.isnan(ratio_interval(np.ones(3), np.zeros(3)).mean)


def test_above_means_that_intervals_do_not_overlap():
    low, high = Interval(mean=1.0, low=0.5, high=1.5, count=9), Interval(mean=2.0, low=1.6, high=2.5, count=9)
    assert high.above(low)
    assert not low.above(high)
    assert not high.above(Interval(mean=1.0, low=0.5, high=1.7, count=9))
    assert high.above(1.5)
    assert not mean_interval(np.array([np.nan])).above(low)


def test_a_single_start_tells_of_no_spread_and_passes_no_comparison():
    alone = mean_interval(np.array([3.0]))
    assert (alone.mean, alone.count) == (3.0, 1)
    assert np.isnan([alone.low, alone.high]).all()
    assert not alone.above(2.9)
    assert not mean_interval(np.array([4.0, 5.0])).above(alone)
    assert np.isnan(resampled_pairs(np.array([[1.0]])).low)


def test_what_is_resampled_are_pairs():
    """Twice as much in every pair is twice as much in every resample, however much the pairs differ."""
    references = np.array([1.0, 2.0, 40.0, 300.0])
    interval = ratio_interval(2 * references, references)
    assert (interval.mean, interval.low, interval.high) == (2, 2, 2)
