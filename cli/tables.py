"""Tables of results, fitted to the available width."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from adaptare.core.table import AnyTable, Column

# A column has a space on either side and a border; a table has one more border.
PADDING: Final = 3
BORDER: Final = 1
# Minimum characters per line of wrapped text.
FOLDED: Final = 20
PIPE_WIDTH: Final = 120


def print_table(table: "AnyTable") -> None:
    """Prints within the width of the terminal, or `COLUMNS`; default for a pipe: 120."""
    from rich.console import Console

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    console = Console(width=None if known else PIPE_WIDTH, highlight=False, markup=False)
    rich_table = drawn(table, console.width)
    console.width = max(console.width, _total([column.width or 0 for column in rich_table.columns]))
    console.print(rich_table)


def drawn(table: "AnyTable", width: int) -> "RichTable":
    """Table of at most this width, without columns of the highest rank if necessary; numbers are never truncated.

    If even the columns of rank 0 are wider, so is the table.
    """
    from rich.table import Table as RichTable

    columns, rows = list(table.columns), table.cells
    if _total(_most(columns, rows)) > width:  # caveats move below their intervals
        rows = [[cell.replace("] ", "]\n") for cell in row] for row in rows]
    while _total(_least(columns, rows)) > width and (highest := max(column.rank for column in columns)):
        last = max(index for index, column in enumerate(columns) if column.rank == highest)
        del columns[last]
        rows = [row[:last] + row[last + 1 :] for row in rows]
    least = _least(columns, rows)
    slack = max(0, width - _total(least))
    rich_table = RichTable(title=table.title, title_justify="left", title_style="bold")
    for index, (column, needed, wanted) in enumerate(zip(columns, least, _most(columns, rows), strict=True)):
        more = min(slack, wanted - needed)
        slack -= more
        rich_table.add_column(
            column.heading, justify="right" if index else "left", width=needed + more, overflow="fold"
        )
    for row in rows:
        rich_table.add_row(*row)
    return rich_table


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + PADDING * len(widths) + BORDER


def _longest(rows: Sequence[Sequence[str]], index: int) -> int:
    return max((len(line) for row in rows for line in row[index].splitlines()), default=0)


def _most(columns: Sequence["Column[Any]"], rows: Sequence[Sequence[str]]) -> list[int]:
    """Widths without line breaks."""
    return [max(len(column.heading), _longest(rows, index)) for index, column in enumerate(columns)]


def _least(columns: Sequence["Column[Any]"], rows: Sequence[Sequence[str]]) -> list[int]:
    """Smallest widths: headings broken between words, wrapping text broken anywhere."""
    smallest = []
    for index, column in enumerate(columns):
        longest = _longest(rows, index)
        text = min(longest, FOLDED) if column.folds or not index else longest
        smallest.append(max(text, *map(len, column.heading.split() or [""])))
    return smallest
