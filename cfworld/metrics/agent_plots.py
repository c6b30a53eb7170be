"""Plots of agents: how they learn, and how dream and simulator score them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cfworld.agents.progress import Point
from cfworld.metrics.plots import legend_below, panels

__all__ = ["dream_and_real", "learning_curve"]

_TRAINING, _REAL = "#edae49", "#2364aa"
_LETTERS = 24
_OFFSET: dict[str, Any] = {"textcoords": "offset points"}


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
        axes[0].legend(fontsize=8)
        for name in both:
            dream, real = (policies[name][key]["score"] for key in ("dream", "twin"))
            bars = [[[s.mean - s.low], [s.high - s.mean]] for s in (dream, real)]
            axes[1].errorbar(dream.mean, real.mean, xerr=bars[0], yerr=bars[1], color=_REAL, marker=".")
            axes[1].annotate(_short(name), (dream.mean, real.mean), fontsize=7, xytext=(3, 3), **_OFFSET)
        if both:
            axes[1].set(xlabel="score in the dream", ylabel="score in the simulator")
            top = max(policies[name][key]["score"].high for name in both for key in ("dream", "twin"))
            axes[1].plot([0, top], [0, top], color="#bbbbbb", linewidth=0.8)


def _short(name: str) -> str:
    """The end of a long name, where folders differ."""
    return name if len(name) <= _LETTERS else f"...{name[3 - _LETTERS :]}"
