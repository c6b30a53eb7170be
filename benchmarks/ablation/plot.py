"""ablation.png: what is recalled by the time away, one panel for each question that the variants ask."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.ablation.variants import FAST_ONLY, FULL, SINK_AND_FAST, TEACHER, TEACHER_WITHOUT_ERFT, VARIANTS
from cfworld.metrics.plots.charts import coloured, panels
from cfworld.metrics.recall import NUM_VIEWS

__all__ = ["QUESTIONS", "write_plot"]

QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "What is kept": (FULL, "uniform_3", "uniform_2", "uniform_1", SINK_AND_FAST, FAST_ONLY),
    "How it is placed and learned": (
        FULL,
        "without_bounded_positions",
        "without_cdmd",
        "without_erft",
        TEACHER,
        TEACHER_WITHOUT_ERFT,
    ),
    "What judges": (FULL, "longlive", "self_forcing", "score_window_2", "score_window_4"),
}
"""Variants that belong in one picture."""
_LEGEND = 0.2
"""Inches that a name takes below its panel."""


def write_plot(path: Path, found: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> None:
    """Draw means over seeds as lines and single seeds as dots; where nothing was recalled there is no picture.

    Args:
        path: the PNG.
        found: figures by variant and seed.
    """
    shown = {
        question: {name: curves for name in names if (curves := _curves(found.get(name, {})))}
        for question, names in QUESTIONS.items()
    }
    shown = {question: variants for question, variants in shown.items() if variants}
    if not shown:
        path.unlink(missing_ok=True)
        return
    with panels(path, len(shown)) as axes:
        figure = axes[0].get_figure()
        assert isinstance(figure, Figure)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + _LEGEND * (1 + max(map(len, shown.values()))))
        for ax, (question, variants) in zip(axes, shown.items(), strict=False):
            for name, colour in coloured(variants):
                seconds, recalled = variants[name]
                style = "--" if name == TEACHER_WITHOUT_ERFT else "-"
                ax.plot(seconds, recalled.mean(axis=0), style, color=colour, label=VARIANTS[name].title)
                for one in recalled:
                    ax.plot(seconds, one, ".", color=colour, alpha=0.5)
            ax.axhline(1 / NUM_VIEWS, color="#999999", linestyle="--", linewidth=0.8, label="chance")
            ax.set(title=question, xlabel="seconds away", ylim=(-0.03, 1.03))
            ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False, fontsize=8)
        axes[0].set_ylabel("views recalled")


def _curves(seeds: Mapping[int, Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray] | None:
    """Times away [n] and what was recalled after each, by seed [S, n]; None where nothing was."""
    times = sorted({time for figures in seeds.values() for time in figures["recall"]})
    if not times:
        return None
    recalled = [[figures["recall"][time]["recalled"]["mean"] for time in times] for figures in seeds.values()]
    return np.array(times), np.array(recalled)
