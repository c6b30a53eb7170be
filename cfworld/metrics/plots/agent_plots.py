"""Plots of agents: how they learn, and how dream and simulator score them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from cfworld.agents.progress import Point
from cfworld.metrics.plots.charts import legend_below, panels

__all__ = ["dream_and_real", "learning_curve", "spread"]

_TRAINING, _REAL = "#edae49", "#2364aa"
_LETTERS = 24
_NAME_HEIGHT = 0.05
"""Height of a name beside the points, as a share of the panel's."""


def learning_curve(path: Path, curve: Sequence[Point], training: str) -> None:
    """The score in training and the score in the simulator, with its standard error, by steps.

    Args:
        path: the file.
        curve: the evaluations.
        training: what to call the score in training.
    """
    steps = np.array([point.steps for point in curve])
    real, error = (np.array([getattr(point, name) for point in curve]) for name in ("real", "error"))
    trained = [np.nan if point.training is None else point.training for point in curve]
    with panels(path, 1) as axes:
        axes[0].plot(steps, trained, color=_TRAINING, marker=".", label=training)
        axes[0].plot(steps, real, color=_REAL, marker=".", label="simulator, seeds of its own")
        axes[0].fill_between(steps, real - error, real + error, color=_REAL, alpha=0.2, linewidth=0)
        axes[0].set(xlabel="steps of training", ylabel="mean return", ylim=(0, None) if min(real) >= 0 else None)
        legend_below(axes)


def dream_and_real(path: Path, policies: Mapping[str, Mapping[str, Any]]) -> None:
    """Each policy's score in the dream and in the simulator, and one against the other.

    Args:
        path: the file.
        policies: by name, what `agent_figures` has of each.
    """
    both = [name for name, entry in policies.items() if {"dream", "twin"} <= entry.keys()]
    with panels(path, 1 + bool(both)) as axes:
        places = np.arange(len(policies))
        for offset, (key, title, colour) in enumerate((("twin", "simulator", _REAL), ("dream", "dream", _TRAINING))):
            shown = [
                (place, entry[key]["score"])
                for place, entry in zip(places, policies.values(), strict=True)
                if key in entry
            ]
            for place, score in shown:
                axes[0].barh(place + 0.4 * offset, score.mean, 0.4, color=colour)
                axes[0].plot([score.low, score.high], [place + 0.4 * offset] * 2, color="#222222", linewidth=1)
            if shown:
                axes[0].barh(0, 0, color=colour, label=title)
        axes[0].set_yticks(places + 0.2, [_short(name) for name in policies], fontsize=7)
        axes[0].invert_yaxis()
        axes[0].set(xlabel="mean return, 95 % interval")
        legend_below(axes)
        points: dict[str, tuple[float, float]] = {}
        for name in both:
            dream, real = (policies[name][key]["score"] for key in ("dream", "twin"))
            bars = [[[s.mean - s.low], [s.high - s.mean]] for s in (dream, real)]
            axes[1].errorbar(dream.mean, real.mean, xerr=bars[0], yerr=bars[1], color=_REAL, marker=".", linewidth=1)
            points[name] = dream.mean, real.mean
        if both:
            axes[1].set(xlabel="score in the dream", ylabel="score in the simulator")
            scores = [policies[name][key]["score"] for name in both for key in ("dream", "twin")]
            top = np.nanmax([[score.mean, score.high] for score in scores])  # one episode has no interval
            axes[1].plot([0, top], [0, top], color="#bbbbbb", linewidth=0.8)
            _name_beside(axes[1], points)


def _name_beside(ax: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Names in a column on the right, in the order of their points' heights, with a line from each to its point."""
    order = sorted(points, key=lambda name: points[name][1])
    bottom, top = ax.get_ylim()
    wanted = np.array([(points[name][1] - bottom) / (top - bottom) for name in order])
    for name, height in zip(order, spread(wanted, _NAME_HEIGHT), strict=True):
        ax.annotate(
            _short(name),
            points[name],
            xytext=(1.06, height),
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#888888", "linewidth": 0.5, "relpos": (0, 0.5)},
        )


def spread(heights: Float[np.ndarray, " n"], gap: float) -> Float[np.ndarray, " n"]:
    """Rising heights, moved as little as they must so that neighbours are at least `gap` apart, between 0 and 1."""
    steps = gap * np.arange(len(heights))
    free = heights - steps
    even = (np.maximum.accumulate(free) + np.minimum.accumulate(free[::-1])[::-1]) / 2
    return np.clip(even, 0, max(0, 1 - steps[-1])) + steps


def _short(name: str) -> str:
    """The end of a long name, where folders differ."""
    return name if len(name) <= _LETTERS else f"...{name[3 - _LETTERS :]}"
