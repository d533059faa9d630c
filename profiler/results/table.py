"""Tables of typed rows, from which whatever shows a result takes its columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column of a table.

    Args:
        heading: Above the column.
        text: Cell of a row.
        rank: 0 for a column that is always shown; where room is short, those of the highest rank go first.
        folds: True for text that may be broken, False for numbers, which are shown whole or not at all.
    """

    heading: str
    text: Callable[[Row], str]
    rank: int = 0
    folds: bool = False


@dataclass(frozen=True)
class Table(Generic[Row]):
    """Rows of one type, and the columns that people read of them; the first column is a name, and folds."""

    title: str
    columns: Sequence[Column[Row]]
    rows: Sequence[Row]

    @property
    def cells(self) -> list[list[str]]:
        """Text of every row and column."""
        return [[column.text(row) for column in self.columns] for row in self.rows]


AnyTable = Table[Any]
