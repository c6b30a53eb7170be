"""ablation.json, ablation.md and ablation.png."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation.config import AblationConfig
from benchmarks.ablation.figures import SUMMARY, summarised
from benchmarks.ablation.plan import planned_horizons
from benchmarks.ablation.plot import write_plot
from benchmarks.ablation.variants import VARIANTS
from cfworld import files
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.markdown_table import markdown_table
from cfworld.metrics.report import as_figures

__all__ = ["markdown", "write_results"]

Continued = Mapping[str, Mapping[float, Mapping[str, Interval]]]
_NOTES = (
    "Figures are means over seeds with Student's 95 % interval between seeds. ECL, recall (share of views retrieved "
    "among 16) and PSNR on return: leave-and-return, the latter two averaged over all times away; ECL is set against "
    "the best of the models trained with fast memory only and with sink and fast memory, and theirs against chance. "
    "After 4 s those recall nearly all themselves, so that no lower bound exceeds the midpoint; such a time passes "
    "where a variant is not below them (ADR 0009). "
    "Colour (in the twin's standard deviations), sharpness and motion (ratios to the twin's): the last third of the "
    "longest drift rollouts. The same budget means the same number of optimiser steps: variants differ in what a step "
    "costs. Minutes: all trainings that the variant stands on, shared ones included. A short teacher is the one that "
    "was trained with fast memory only; the students that follow it begin as the full method's does. Without ERFT, "
    "neither teacher nor initialisation sees errors in its context. The paper's columns are VBench figures of a "
    "1.3B text-to-video model after 60 s, and comparable in order alone."
)


def write_results(
    config: AblationConfig,
    found: Mapping[str, Mapping[int, Mapping[str, Any]]],
    continued: Continued,
    failed: Sequence[str],
) -> None:
    """Write the files into the folder of results, each whole or not at all.

    Args:
        config: what was asked for.
        found: figures by variant and seed.
        continued: figures of continuations by who continues, age of the context and quantity.
        failed: titles of runs that failed.
    """
    folder = Path(config.results)
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        name: {
            "title": VARIANTS[name].title,
            "summary": summarised(seeds),
            "seeds": dict(seeds),
            "paper": asdict(paper) if (paper := VARIANTS[name].paper) else None,
        }
        for name, seeds in found.items()
    }
    settings = {name: value for name, value in asdict(config).items() if name not in ("work", "results", "check")}
    figures = {"config": settings, "variants": rows, "continuations": continued, "failed": list(failed)}
    files.write_json(folder / "ablation.json", as_figures(figures))
    files.write_text(folder / "ablation.md", markdown(config, found, continued, failed))
    write_plot(folder / "ablation.png", found)


def markdown(
    config: AblationConfig,
    found: Mapping[str, Mapping[int, Mapping[str, Any]]],
    continued: Continued,
    failed: Sequence[str],
) -> str:
    """The table beside the paper's."""
    order = [name for name in VARIANTS if name in found]
    summaries = {name: summarised(found[name]) for name in order}
    steps = ", ".join(f"{stage} {number}" for stage, number in asdict(config.steps).items())
    lines = [f"# Ablation on {config.world}", "", f"Steps: {steps}. Seeds: {', '.join(map(str, config.seeds))}.", ""]
    columns = ["variant", "seeds", *SUMMARY.values(), "paper: total", "background", "subject", "dynamic"]
    rows = []
    for name in order:
        paper = VARIANTS[name].paper
        theirs = [f"{value:.2f}" for value in asdict(paper).values()] if paper else ["-"] * 4
        ours = [_cell(summaries[name][key]) for key in SUMMARY]
        rows.append([VARIANTS[name].title, str(len(found[name])), *ours, *theirs])
    lines += [
        *markdown_table(columns, rows),
        "",
        _NOTES,
        planned_horizons(config).note,
        "",
        *_recall_by_time(found, order),
        *_orders(summaries),
    ]
    lines += _continued(continued)
    if failed:
        lines += ["", f"Runs that failed, and are not in the table: {', '.join(failed)}."]
    return "\n".join(lines) + "\n"


def _recall_by_time(found: Mapping[str, Mapping[int, Mapping[str, Any]]], order: Sequence[str]) -> Iterator[str]:
    """Recall at each time away, and after a full turn where one was taken: means over seeds."""
    times = sorted({time for name in order for figures in found[name].values() for time in figures["recall"]})
    if not times:
        return
    turns = {name: [turn["mean"] for f in found[name].values() if (turn := f["full_turn"])] for name in order}
    has_turned = any(turns.values())
    rows = []
    for name in order:
        means = [
            [f["recall"][time]["recalled"]["mean"] for f in found[name].values() if time in f["recall"]]
            for time in times
        ]
        means += [turns[name]] if has_turned else []
        rows.append([VARIANTS[name].title, *(f"{np.mean(values):.2f}" if values else "-" for values in means)])
    columns = ["recall after (s)", *(f"{time:g}" for time in times), *(["a full turn"] if has_turned else [])]
    yield from (*markdown_table(columns, rows), "")


def _continued(continued: Continued) -> Iterator[str]:
    """Distance to the twin (SD), sharpness and motion (ratios) by the age of the student's context."""
    if not continued:
        return
    yield from ("", "Continuations of the full method's student, by the age of the context it made:", "")
    keys = {"distance": "distance to the twin (SD)", "sharpness": "sharpness ratio", "motion": "motion ratio"}
    rows = [
        [name, f"{age:g}", *(_cell(figures[key]) for key in keys)]
        for name, ages in continued.items()
        for age, figures in ages.items()
    ]
    yield from markdown_table(["continued by", "age (s)", *keys.values()], rows)


def _orders(summaries: Mapping[str, Mapping[str, Interval]]) -> Iterator[str]:
    """Where our order by recall differs from the paper's by its total."""
    totals = {name: paper.total for name in summaries if (paper := VARIANTS[name].paper)}
    known = {name: total for name, total in totals.items() if not np.isnan(summaries[name]["recalled"].mean)}
    if len(known) < 2:
        return
    titles = {name: VARIANTS[name].title for name in known}
    paper = sorted(known, key=lambda name: -known[name])
    ours = sorted(known, key=lambda name: -summaries[name]["recalled"].mean)
    yield f"The paper's order by total: {' > '.join(titles[name] for name in paper)}."
    yield f"Ours by recall: {' > '.join(titles[name] for name in ours)}."
    for better, worse in combinations(paper, 2):
        first, second = summaries[better]["recalled"], summaries[worse]["recalled"]
        if first.mean < second.mean:
            apart = "the intervals do not overlap" if second.above(first) else "the intervals overlap"
            if np.isnan([first.low, second.low]).any():
                apart = "one seed has no interval"
            yield f"- Other than in the paper, {titles[worse]} is above {titles[better]}: {apart}."


def _cell(found: Interval) -> str:
    if np.isnan(found.mean):
        return "-"
    if np.isnan(found.low):
        return f"{found.mean:.2f}"
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"
