"""Means with 95 % bootstrap intervals over starts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

__all__ = ["Interval", "mean_interval", "ratio_interval", "resampled_pairs"]

RESAMPLES = 2000
_SEED = 20_260_101


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A figure over a number of starts."""

    mean: float
    """The estimate; NaN when nothing was counted."""
    low: float
    """2.5th percentile of the resampled estimates; NaN where a single start was counted, which tells of no spread."""
    high: float
    """97.5th percentile of the resampled estimates; NaN likewise."""
    count: int
    """Number of starts that were counted."""

    def above(self, other: "Interval | float") -> bool:
        """Whether this lies above the other and their intervals do not overlap; False where either is NaN."""
        return self.low > (other.high if isinstance(other, Interval) else other)

    def within(self, low: float, high: float) -> bool:
        """Whether the estimate itself lies in [low, high]; False for NaN."""
        return low <= self.mean <= high


def mean_interval(values: Shaped[np.ndarray, " n"]) -> Interval:
    """Mean of the values that are not NaN, with its interval.

    For a paired comparison, give the differences.

    Args:
        values: one number, or bool, per start; NaN where a start does not count.
    """
    values = np.asarray(values, np.float64)
    return ratio_interval(values, np.where(np.isnan(values), np.nan, 1.0))


def ratio_interval(values: Float[np.ndarray, " n"], references: Float[np.ndarray, " n"]) -> Interval:
    """Ratio of the two means, with an interval from resampling the pairs.

    Args:
        values: one number per start; NaN where a start does not count.
        references: what each is compared with, NaN at the same places; its sum should be positive.
    """
    values, references = np.asarray(values, np.float64), np.asarray(references, np.float64)
    counted = ~(np.isnan(values) | np.isnan(references))
    values, references = values[counted], references[counted]
    count = len(values)
    if count == 0 or references.sum() == 0:
        return Interval(mean=np.nan, low=np.nan, high=np.nan, count=count)
    estimate = float(values.sum() / references.sum())
    if count == 1:
        return Interval(mean=estimate, low=np.nan, high=np.nan, count=1)
    draws = np.random.default_rng(_SEED).integers(count, size=(RESAMPLES, count))
    below = references[draws].sum(axis=1)
    resampled = values[draws].sum(axis=1)[below > 0] / below[below > 0]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(mean=estimate, low=float(low), high=float(high), count=count)


def resampled_pairs(values: Float[np.ndarray, "n n"]) -> Interval:
    """Mean over all pairs of starts, with an interval from resampling the starts on both sides at once.

    Args:
        values: what was found between the first start of a pair, by row, and the second, by column.
    """
    count = len(values)
    if count < 2:
        return Interval(mean=float(values.mean()), low=np.nan, high=np.nan, count=count)
    draws = np.random.default_rng(_SEED).multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    resampled = ((draws @ values) * draws).sum(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Interval(mean=float(values.mean()), low=float(low), high=float(high), count=count)
