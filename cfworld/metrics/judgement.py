"""What a metric hands to the report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfworld.metrics.bootstrap import Interval

__all__ = ["CEILING", "CHANCE", "LAST_FRAME", "Bars", "Judgement", "Picture", "Table"]

CEILING, CHANCE, LAST_FRAME = "tokenizer", "chance", "last frame"
"""What stands beside the worlds in tables: the truth through the tokenizer, guessing, and the last frame repeated."""

Cell = str | float | int | Interval | None
Bars = Mapping[str, bool | None]
"""Whether each bar was passed, by what it demands; None where nothing could be measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table of the report."""

    title: str
    """What is shown, with its unit."""
    columns: Sequence[str]
    """Headings, the first one above the names of the rows."""
    rows: Sequence[Sequence[Cell]]
    """Cells, as many as there are columns."""
    note: str = ""
    """How to read it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A plot or film strip of the report."""

    name: str
    """File name, ending in .png."""
    caption: str
    """What is shown."""
    write: Callable[[Path], Any]
    """Writes the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """The outcome of one metric."""

    metric: str
    """The metric's name."""
    figures: Mapping[str, Any]
    """All figures: nested mappings and sequences of numbers and intervals."""
    bars: Mapping[str, Bars]
    """The bars of each world that was judged."""
    tables: Sequence[Table]
    """For people."""
    pictures: Sequence[Picture] = field(default_factory=tuple)
    """For people who would rather look."""
