"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

__all__ = ["RIGHT", "markdown_table"]

RIGHT = "---:"
"""Below its head this sets a column of numbers flush right."""


def markdown_table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], rules: Sequence[str] | None = None
) -> list[str]:
    """The lines of a table.

    Args:
        heads: what stands above the columns.
        rows: one text for each column.
        rules: what stands below each head, `---` or `RIGHT`; None for `---` below all, without spaces.
    """
    below = f"|{'---|' * len(heads)}" if rules is None else _line(rules)
    return [_line(heads), below, *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
