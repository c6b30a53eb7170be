"""Plots of agents: how they learn, and how dream and simulator score them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cfworld.agents.progress import Point
from cfworld.metrics.plots import panels

__all__ = ["learning_curve"]

_TRAINING, _REAL = "#edae49", "#2364aa"


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
        axes[0].legend(fontsize=8)
