"""Plots of the report: every function writes one PNG and knows nothing of how the figures came about."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cfworld import files
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.judgement import CEILING, CHANCE, LAST_FRAME

__all__ = [
    "band",
    "calibration",
    "coloured",
    "confusion",
    "drift",
    "fidelity",
    "heading",
    "legend_below",
    "novelty",
    "panels",
    "probe",
    "recall",
    "survival",
]

_COLOURS = ("#2364aa", "#d1495b", "#3a7d44", "#edae49", "#6d597a", "#00798c", "#8d5524", "#555555")
_REFERENCES = {LAST_FRAME: "#999999", CEILING: "#000000", "twin": "#000000", CHANCE: "#999999"}
_NOVELTY_TICKS = (-5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50)
_LETTER, _HANDLE, _LINE = 0.065, 0.55, 0.17
"""Inches that a letter, the line beside a name and a row of names take up in a legend."""


def fidelity(
    path: Path,
    figures: Mapping[str, Mapping[str, Sequence[Interval]]],
    seconds: Sequence[float],
    titles: Mapping[str, str],
) -> None:
    """Each quantity by time, a line and a band for each predictor.

    Args:
        path: the file.
        figures: intervals by predictor and quantity, one for each time.
        seconds: the times.
        titles: the quantities and what stands above them.
    """
    with panels(path, len(titles)) as axes:
        for ax, (key, title) in zip(axes, titles.items(), strict=False):
            for name, colour in coloured(figures):
                band(ax, seconds, figures[name][key], name, colour)
            if key.endswith("ratio"):
                ax.axhline(1, color="#bbbbbb", linewidth=0.8)
                ax.set_yscale("symlog", linthresh=0.1)
                ax.set_ylim(bottom=0)
            ax.set(title=title, xscale="log", xlabel="seconds after the start")
            ax.set_xticks(list(seconds), [f"{time:g}" for time in seconds])
            ax.minorticks_off()
        legend_below(axes)


def confusion(path: Path, matrices: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    """One matrix of shares for each predictor."""
    with panels(path, len(matrices)) as axes:
        for ax, (name, matrix) in zip(axes, matrices.items(), strict=False):
            ax.imshow(np.nan_to_num(matrix), vmin=0, vmax=1, cmap="Blues")
            for (row, column), value in np.ndenumerate(matrix):
                ink = "white" if value > 0.5 else "black"
                ax.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink)
            ax.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=8)
            ax.set_yticks(range(len(names)), names, fontsize=8)
            ax.set(title=name)


def drift(
    path: Path,
    made: Mapping[str, np.ndarray],
    truth: np.ndarray,
    seconds: Sequence[float],
    names: Sequence[str],
) -> None:
    """Each statistic by elapsed time: the worlds' means above the twin's spread.

    Args:
        path: the file.
        made: statistics [B, M, S] of each world.
        truth: the twin's.
        seconds: the M moments.
        names: the S statistics.
    """
    with panels(path, len(names)) as axes:
        for i, (ax, name) in enumerate(zip(axes, names, strict=False)):
            mean, spread = truth[..., i].mean(axis=0), truth[..., i].std(axis=0)
            ax.fill_between(seconds, mean - spread, mean + spread, color="#dddddd", label="twin")
            ax.plot(seconds, mean, color="black", linewidth=1)
            for world, colour in coloured(made):
                ax.plot(seconds, made[world][..., i].mean(axis=0), color=colour, label=world)
            ax.set(title=name, xlabel="seconds")
        legend_below(axes)


def calibration(path: Path, curves: Mapping[str, Any]) -> None:
    """Observed share by predicted probability, on the same scale."""
    with panels(path, 1) as (ax,):
        largest = max(float(max(c.predicted.max(), c.observed.max())) for c in curves.values())
        ax.plot([0, largest], [0, largest], color="#bbbbbb", linewidth=0.8, label="perfect")
        for name, colour in coloured(curves):
            curve = curves[name]
            low, high = curve.bounds()
            error = np.maximum([curve.observed - low, high - curve.observed], 0)
            ax.errorbar(curve.predicted, curve.observed, error, color=colour, marker="o", label=name)
        ax.set(
            title="End of the episode within a step",
            xlabel="predicted probability",
            ylabel="share of steps in the twin",
        )
        legend_below([ax])


def survival(path: Path, curves: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], max_ticks: int) -> None:
    """Share of episodes that still run, by policy; a step curve for each world and the twin."""
    with panels(path, len(curves)) as axes:
        for ax, (policy, found) in zip(axes, curves.items(), strict=False):
            for name, colour in coloured(found):
                times, share = found[name]
                ax.step([*times, max_ticks], [*share, share[-1]], where="post", color=colour, label=name)
            ax.set(title=policy, xlabel="ticks", ylim=(-0.02, 1.02))
        axes[0].set_ylabel("share of episodes that still run")
        legend_below(axes)


def recall(
    path: Path,
    routes: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    away: Mapping[str, float],
    context: Mapping[str, Mapping[str, float | None]],
    baselines: Sequence[str] = (),
) -> None:
    """Recall and PSNR on return by the time away, a line and a band for each world and reference.

    Args:
        path: the file.
        routes: intervals by route, name and quantity.
        away: seconds from leaving to returning of the routes that leave and return; others stand on the right.
        context: each world's effective context in seconds by quantity, named in the legend.
        baselines: those of the worlds whose context is one over chance, where the others' is one over the best of them.
    """
    quantities = {"recalled": "Recalled (share)", "psnr": "PSNR to the twin's view (dB)"}
    order = sorted(away, key=lambda route: away[route])
    seconds = [away[route] for route in order]
    others = [route for route in routes if route not in away]
    where = "seconds away" + (f" (crosses: {', '.join(others)})" if others else "")
    with panels(path, len(quantities)) as axes:
        for ax, (key, title) in zip(axes, quantities.items(), strict=False):
            for nth, (name, colour) in enumerate(coloured(next(iter(routes.values())))):
                against = "" if not baselines else "over chance: " if name in baselines else "over the best baseline: "
                label = name + _context_note(context.get(name, {}), against)
                if order:
                    band(ax, seconds, [routes[route][name][key] for route in order], label, colour)
                for place, route in enumerate(others):
                    found = routes[route][name][key]
                    at = (1.08 + 0.012 * nth) * max(seconds, default=1) + 2 * place  # side by side, none hides another
                    spread = [[found.mean - found.low], [found.high - found.mean]]
                    ax.errorbar(
                        at, found.mean, np.abs(spread), marker="x", color=colour, label=None if order else label
                    )
            ax.set(title=title, xlabel=where)
        axes[0].set_ylim(-0.02, 1.02)
        legend_below(axes)


def _context_note(reached: Mapping[str, float | None], against: str) -> str:
    found, by_psnr = reached.get("recalled"), reached.get("psnr")
    if found is None or by_psnr is None:
        return ""
    return f" ({against}ECL {found:g} s, by PSNR {by_psnr:g} s)"


def heading(path: Path, errors: Mapping[str, Int64[np.ndarray, "B n"]], step_seconds: float, tolerance: int) -> None:
    """Quartiles of the heading's error in pixels, by the time away; a line where a view is no longer the same."""
    with panels(path, 1) as (ax,):
        for name, colour in coloured(errors):
            low, middle, high = np.quantile(np.abs(errors[name]), [0.25, 0.5, 0.75], axis=0)
            seconds = step_seconds * np.arange(1, len(middle) + 1)
            ax.plot(seconds, middle, color=colour, label=name)
            ax.fill_between(seconds, low, high, color=colour, alpha=0.15, linewidth=0)
        ax.axhline(tolerance, color="#bbbbbb", linewidth=0.8)
        ax.set(title="Error of the heading (pixels)", xlabel="seconds after leaving")
        ax.set_ylim(bottom=0)
        legend_below([ax])


def probe(path: Path, effects: Mapping[str, Any]) -> None:
    """Effect of each slot by its age, one panel for each world and one colour for each part of the memory."""
    colours = dict(coloured(dict.fromkeys(kind for found in effects.values() for kind in found.kinds)))
    with panels(path, len(effects)) as axes:
        for ax, (name, found) in zip(axes, effects.items(), strict=False):
            kinds = np.array(found.kinds)
            for kind in dict.fromkeys(found.kinds):
                chosen = kinds == kind
                ages, sizes = found.ages[chosen].ravel(), found.sizes[chosen].ravel()
                ax.scatter(ages, sizes, color=colours[kind], s=12, label=kind)
            ax.set(title=name, xlabel="age of the latent (s)", ylabel="change of the next latents")
            ax.set_ylim(bottom=0)
        legend_below(axes)


def novelty(path: Path, steps: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Quantiles of the novelty of every kind of step, one panel for each world; 1 is the oddest hundredth of real."""
    with panels(path, len(steps)) as axes:
        for ax, (name, kinds) in zip(axes, steps.items(), strict=False):
            for place, found in enumerate(kinds.values()):
                low, first, middle, third, high = np.quantile(found, [0.05, 0.25, 0.5, 0.75, 0.95])
                ax.plot([low, high], [place, place], color=_COLOURS[0], linewidth=1)
                ax.plot([first, third], [place, place], color=_COLOURS[0], linewidth=5)
                ax.plot(middle, place, marker="o", color="white", markeredgecolor=_COLOURS[0])
            ax.axvline(0, color="#bbbbbb", linewidth=0.8)
            ax.axvline(1, color=_COLOURS[1], linewidth=0.8)
            ax.set_yticks(range(len(kinds)), list(kinds), fontsize=8)
            ax.invert_yaxis()
            ax.set_xscale("symlog", linthresh=2)
            left, right = ax.get_xlim()
            ticks = [tick for tick in _NOVELTY_TICKS if left <= tick <= right]
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.set_xticks([], minor=True)
            ax.set(title=name, xlabel="novelty")


@contextmanager
def panels(path: Path, num_panels: int) -> Iterator[list[Axes]]:
    """Axes of a new figure, which is written when the context ends, whole or not at all."""
    columns = min(3, num_panels)
    rows = -(-num_panels // columns)
    figure = Figure(figsize=(4.4 * columns, 3.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, i + 1) for i in range(num_panels)]
    yield axes
    with files.write_aside(path) as aside:
        figure.savefig(aside, dpi=110)


def legend_below(axes: Sequence[Axes]) -> None:
    """One legend for all panels, below them, where it hides nothing; none where no curve has a name."""
    handles = {name: handle for ax in axes for handle, name in zip(*ax.get_legend_handles_labels(), strict=True)}
    if not handles:
        return
    figure = axes[0].get_figure()
    assert isinstance(figure, Figure)
    width, height = figure.get_size_inches()
    columns = max(1, int(width / (_LETTER * max(map(len, handles)) + _HANDLE)))
    figure.set_size_inches(width, height + _LINE * -(-len(handles) // columns))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, fontsize=8)


def coloured(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Names with their colours: references keep theirs."""
    free = iter(_COLOURS * 4)
    for name in names:
        yield name, _REFERENCES.get(name) or next(free)


def band(ax: Axes, x: Sequence[float], intervals: Sequence[Interval], name: str, colour: str) -> None:
    """A line of means over the band of their intervals."""
    ax.plot(x, [interval.mean for interval in intervals], color=colour, marker=".", label=name)
    low, high = [i.low for i in intervals], [i.high for i in intervals]
    ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
