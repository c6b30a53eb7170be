"""Statistics of the features of a LeRobot dataset: of an episode, and of many."""

from collections.abc import Mapping, Sequence

import numpy as np

__all__ = ["STATISTICS", "episode_stats", "joined_stats"]

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", "count", *_QUANTILES)

Stats = dict[str, np.ndarray]


def episode_stats(columns: Mapping[str, np.ndarray]) -> dict[str, Stats]:
    """Statistics of every feature of an episode.

    Args:
        columns: Values by feature, [T, ...]; images are uint8 [T, H, W, 3].

    Returns:
        By feature, then by name: of numbers float64 [n], of images float64 [3, 1, 1] with 255 as 1. `count` is
        int64 [1], the number of rows.
    """
    return {name: _of_images(v) if v.dtype == np.uint8 else _of_numbers(v) for name, v in columns.items()}


def joined_stats(episodes: Sequence[Stats]) -> Stats:
    """Statistics of a feature over episodes, out of those of each.

    Means and deviations are exact; a quantile is the mean of the episodes' quantiles, weighted by their rows, as the
    format has it.
    """
    stacked = {name: np.stack([stats[name] for stats in episodes]) for name in STATISTICS}
    count = stacked["count"].sum(axis=0)
    weights = stacked["count"].reshape(-1, *[1] * (stacked["mean"].ndim - 1)) / count[0]
    mean = (stacked["mean"] * weights).sum(axis=0)
    variance = ((stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2) * weights).sum(axis=0)
    return {
        "min": stacked["min"].min(axis=0),
        "max": stacked["max"].max(axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": count,
        **{name: (stacked[name] * weights).sum(axis=0) for name in _QUANTILES},
    }


def _of_numbers(values: np.ndarray) -> Stats:
    numbers = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(numbers, list(_QUANTILES.values()), axis=0)
    return {
        "min": numbers.min(axis=0),
        "max": numbers.max(axis=0),
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(values)]),
        **dict(zip(_QUANTILES, quantiles, strict=True)),
    }


def _of_images(frames: np.ndarray) -> Stats:
    """Of every colour, out of how often each of its 256 values occurs."""
    counts = np.stack([np.bincount(frames[..., colour].ravel(), minlength=256) for colour in range(3)])
    levels = np.arange(256) / 255
    total = counts.sum(axis=1)
    mean = counts @ levels / total
    below = counts.cumsum(axis=1)

    def quantile(share: float) -> np.ndarray:
        return levels[(below < share * total[:, None]).sum(axis=1)]

    found = {
        "min": levels[(counts > 0).argmax(axis=1)],
        "max": levels[255 - (counts[:, ::-1] > 0).argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0)),
        **{name: quantile(share) for name, share in _QUANTILES.items()},
    }
    return {name: value.reshape(3, 1, 1) for name, value in found.items()} | {"count": np.array([len(frames)])}
