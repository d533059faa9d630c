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
# Minimum characters per line of wrapped text; no number is longer.
FOLDED: Final = 16
PIPE_WIDTH: Final = 120


def print_table(table: "AnyTable") -> list[str]:
    """Prints within the width of the terminal, or `COLUMNS`; default for a pipe: 120.

    Returns:
        Headings of the columns that were left out.
    """
    from rich.console import Console

    known = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    console = Console(width=None if known else PIPE_WIDTH, highlight=False, markup=False)
    parts = drawn(table, console.width)
    for part in parts:
        console.width = max(console.width, _total([column.width or 0 for column in part.columns]))
        console.print(part)
    printed = {column.header for part in parts for column in part.columns}
    return [column.heading for column in table.columns if column.heading not in printed]


def drawn(table: "AnyTable", width: int) -> "list[RichTable]":
    """Table of at most this width, without columns of the highest rank if necessary; numbers are never truncated.

    If even the columns of rank 0 are wider, the table is printed in several parts with the first column in each. Only
    two columns that do not fit side by side are wider than `width`.
    """
    columns, rows = list(table.columns), table.cells
    if _total(_most(columns, rows)) > width:  # caveats move below their intervals
        rows = [[cell.replace("] ", "]\n") for cell in row] for row in rows]
    shown = list(range(len(columns)))
    while _total(_least([columns[index] for index in shown], _picked(rows, shown))) > width:
        highest = max(columns[index].rank for index in shown)
        if not highest:
            break
        shown.remove(max(index for index in shown if columns[index].rank == highest))
    drawings: list[RichTable] = []
    for part in _parts(shown, _least(columns, rows), width):
        title = "" if drawings else table.title
        drawings.append(_drawing(title, [columns[index] for index in part], _picked(rows, part), width))
    return drawings


def _parts(shown: Sequence[int], least: Sequence[int], width: int) -> list[list[int]]:
    """Indices of columns side by side; each part begins with the first column."""
    name, *others = shown
    parts = [[name]]
    for index in others:
        if len(parts[-1]) > 1 and _total([least[each] for each in (*parts[-1], index)]) > width:
            parts.append([name])
        parts[-1].append(index)
    return parts


def _picked(rows: Sequence[Sequence[str]], indices: Sequence[int]) -> list[list[str]]:
    return [[row[index] for index in indices] for row in rows]


def _drawing(title: str, columns: "Sequence[Column[Any]]", rows: Sequence[Sequence[str]], width: int) -> "RichTable":
    from rich.table import Table as RichTable

    widths = _least(columns, rows)
    slack = max(0, width - _total(widths))
    wanted = [*enumerate(_unbroken(rows)), *enumerate(_most(columns, rows))]
    for index, most in sorted(wanted, key=lambda one: one[1] - widths[one[0]]):  # what lacks least comes first
        more = min(slack, max(0, most - widths[index]))
        widths[index] += more
        slack -= more
    table = RichTable(title=title or None, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column.heading, justify="right" if index else "left", width=widths[index], overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + PADDING * len(widths) + BORDER


def _longest(rows: Sequence[Sequence[str]], index: int) -> int:
    return max((len(line) for row in rows for line in row[index].splitlines()), default=0)


def _unbroken(rows: Sequence[Sequence[str]]) -> list[int]:
    """Widths at which no word is broken."""
    return [
        max((len(word) for cell in column for word in cell.split()), default=0) for column in zip(*rows, strict=True)
    ]


def _most(columns: Sequence["Column[Any]"], rows: Sequence[Sequence[str]]) -> list[int]:
    """Widths without line breaks."""
    return [max(len(column.heading), _longest(rows, index)) for index, column in enumerate(columns)]


def _least(columns: Sequence["Column[Any]"], rows: Sequence[Sequence[str]]) -> list[int]:
    """Smallest widths: headings broken between words, wrapping text broken into lines of `FOLDED` characters."""
    smallest = []
    for index, column in enumerate(columns):
        longest = _longest(rows, index)
        if column.folds or not index:
            longest = min(longest, FOLDED)
        smallest.append(max(longest, *map(len, column.heading.split() or [""])))
    return smallest
