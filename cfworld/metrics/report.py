"""The report of an evaluation: report.json, report.md and its pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cfworld import files
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.judgement import Bars, Cell, Judgement, Table
from cfworld.metrics.markdown_table import markdown_table

__all__ = ["as_figures", "draw", "markdown", "write_report"]

_VERDICT = {True: "passed", False: "**failed**", None: "not measurable"}


def draw(folder: Path, judgement: Judgement) -> None:
    """Write the pictures of a metric into a folder."""
    for picture in judgement.pictures:
        picture.write(folder / picture.name)


def write_report(folder: Path, about: Mapping[str, Any], judgements: Sequence[Judgement]) -> dict[str, Any]:
    """Write report.json and report.md into a folder, each whole or not at all; `draw` writes the pictures.

    Args:
        folder: where to.
        about: what was evaluated and how: plain values and mappings of such, shown at the top but for None.
        judgements: the outcomes of the metrics.

    Returns:
        What report.json holds.
    """
    figures = {
        "about": dict(about),
        "metrics": {judged.metric: as_figures(judged.figures) for judged in judgements},
        "bars": {judged.metric: {name: dict(bars) for name, bars in judged.bars.items()} for judged in judgements},
    }
    files.write_json(folder / "report.json", figures)
    files.write_text(folder / "report.md", markdown(about, judgements))
    return figures


def markdown(about: Mapping[str, Any], judgements: Sequence[Judgement]) -> str:
    """The report as Markdown, pictures by their file names."""
    lines = [f"# Evaluation of {about.get('world', 'a world')}", ""]
    lines += [f"- {key}: {_told(value)}" for key, value in about.items() if value is not None]
    lines += ["", "Figures are means with 95 % bootstrap intervals over starts.", ""]
    for judged in judgements:
        lines += [f"## {judged.metric}", ""]
        for table in judged.tables:
            lines += [*_table(table), ""]
        lines += [*_bars(judged.bars), ""]
        for picture in judged.pictures:
            lines += [f"![{picture.caption}]({picture.name})", "", f"*{picture.caption}*", ""]
    return "\n".join(lines)


def as_figures(value: Any) -> Any:
    """Figures with intervals as mappings, for JSON."""
    if isinstance(value, Interval):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): as_figures(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_figures(item) for item in value]
    return value


def _told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {part}" for name, part in value.items())
    return value


def _table(table: Table) -> Iterable[str]:
    yield f"**{table.title}**"
    yield ""
    yield from markdown_table(table.columns, [[_cell(cell) for cell in row] for row in table.rows])
    if table.note:
        yield ""
        yield table.note


def _bars(bars: Mapping[str, Bars]) -> list[str]:
    names = dict.fromkeys(bar for found in bars.values() for bar in found)
    rows = [[bar, *(_VERDICT[found.get(bar)] for found in bars.values())] for bar in names]
    return markdown_table(["bar", *bars], rows)


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, Interval):
        if np.isnan(cell.mean):
            return "-"
        if np.isnan(cell.low):
            return _number(cell.mean)
        return f"{_number(cell.mean)} [{_number(cell.low)}, {_number(cell.high)}]"
    if cell is None or np.isnan(cell):
        return "-"
    return _number(cell)


def _number(value: float | int) -> str:
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    if value == 0:
        return "0"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
