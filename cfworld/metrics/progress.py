"""How far an evaluation has come: metrics report to a bar that they are given, and to nobody by default."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["Bar", "Progress", "progress_bar", "silent", "silent_bar", "watched"]

T = TypeVar("T")

Progress = Callable[[int], Any]
"""Called with the number of units that were just done."""

Bar = Callable[[str, int, str], AbstractContextManager[Progress]]
"""Opens a bar: what is done, how many units at most, and what a unit is."""


def silent(done: int) -> None:
    """Report progress to nobody."""
    del done


@contextmanager
def silent_bar(title: str, total: int, unit: str) -> Iterator[Progress]:
    """Show no bar."""
    del title, total, unit
    yield silent


@contextmanager
def progress_bar(title: str, total: int, unit: str) -> Iterator[Progress]:
    """Show a bar with its rate and the time left."""
    with tqdm(total=total, desc=title, unit=unit) as bar:
        yield bar.update


def watched(items: Iterable[T], bar: Bar, title: str, total: int, unit: str) -> Iterator[T]:
    """The items, counted by a bar as they come."""
    with bar(title, total, unit) as progress:
        for item in items:
            progress(1)
            yield item
