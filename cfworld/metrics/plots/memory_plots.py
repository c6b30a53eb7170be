"""Plots of what the memory keeps, and of what teachers make of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.plots.charts import band, coloured, legend_below, panels

__all__ = ["continuation", "promotions"]


def promotions(path: Path, kept: Mapping[str, Any]) -> None:
    """Ages of the slow slots of all worlds, and one panel of similarities by layer for each of them.

    Args:
        path: the file.
        kept: what each world's memory did, a `Kept`.
    """
    with panels(path, 1 + len(kept)) as axes:
        longest = max((float(found.ages.max()) for found in kept.values() if len(found.ages)), default=1.0)
        for name, colour in coloured(kept):
            bins = np.linspace(0, longest, 25)
            axes[0].hist(kept[name].ages, bins=bins, histtype="step", color=colour, label=name)  # pyright: ignore[reportArgumentType]
        axes[0].set(title="Age of the slow slots", xlabel="seconds", ylabel="slots at checks")
        axes[0].legend(fontsize=8)
        for ax, (name, found) in zip(axes[1:], kept.items(), strict=False):
            for shift, (kind, colour) in zip((-0.18, 0.18), coloured(("plain", "centred")), strict=True):
                layers = getattr(found, kind)
                if not layers.shape[1]:
                    continue
                drawn = ax.boxplot(list(layers), positions=np.arange(len(layers)) + shift, widths=0.3, showfliers=False)
                for part in drawn["boxes"] + drawn["medians"] + drawn["whiskers"] + drawn["caps"]:
                    part.set_color(colour)
                ax.plot([], [], color=colour, label=kind)
            ax.set_xticks(range(len(found.plain)), [str(layer) for layer in range(len(found.plain))])
            ax.set(title=f"Similarity at checks, {name}", xlabel="layer", ylim=(None, 1.02))
            ax.legend(fontsize=8)


def continuation(path: Path, figures: Mapping[str, Mapping[str, Sequence[Interval]]], ages: Sequence[float]) -> None:
    """Quality of continuations by the age of their context, a line and a band for each world.

    Args:
        path: the file.
        figures: intervals by world and quantity, one for each age.
        ages: in seconds.
    """
    titles = {
        "distance": "Distance to the twin (SD)",
        "sharpness": "Sharpness, ratio to the twin's",
        "motion": "Motion, ratio to the twin's",
        "psnr": "PSNR to the twin's future (dB)",
    }
    with panels(path, len(titles)) as axes:
        for ax, (key, title) in zip(axes, titles.items(), strict=False):
            for name, colour in coloured(figures):
                band(ax, ages, figures[name][key], name, colour)
            ax.set(title=title, xlabel="age of the context (s)")
        legend_below(axes)
