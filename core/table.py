"""Parts of a displayed result: tables of typed rows, sentences and notes."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Args:
        heading: Title of the column.
        text: Formats the cell of a row.
        rank: 0 for a column that is always shown; in narrow output, columns of the highest rank are dropped first.
        folds: True for text that may be wrapped, False for numbers, which are shown complete or not at all.
    """

    heading: str
    text: Callable[[Row], str]
    rank: int = 0
    folds: bool = False


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Rows of one type, and their displayed columns; the first column is a name and may be wrapped."""

    title: str
    columns: Sequence[Column[Row]]
    rows: Sequence[Row]

    @property
    def cells(self) -> list[list[str]]:
        """Text of every row and column."""
        return [[column.text(row) for column in self.columns] for row in self.rows]

    def _repr_html_(self) -> str:
        """For notebooks."""
        lines = [("th", [column.heading for column in self.columns]), *(("td", row) for row in self.cells)]
        body = "".join(
            f"<tr>{''.join(f'<{tag}>{html.escape(cell)}</{tag}>' for cell in cells)}</tr>" for tag, cells in lines
        )
        return f"<table><caption>{html.escape(self.title)}</caption>{body}</table>"


AnyTable = Table[Any]


@dataclass(frozen=True)
class Note:
    """A remark on a result, shown even if the result is JSON."""

    text: str


Section = AnyTable | Note | str
