"""Table of accuracies on multiple-choice questions."""

from collections.abc import Sequence

from adaptare.core.table import Column, Table
from adaptare.search.training import UNTRAINED, Accuracy


def accuracy_table(accuracies: Sequence[Accuracy], part: str) -> Table[Accuracy]:
    """Table of accuracies on one part of the examples, such as `test`."""
    columns: tuple[Column[Accuracy], ...] = (
        Column("", lambda row: row.name),
        Column("right", lambda row: _share(row.share.middle)),
        Column("95 % interval", lambda row: row.share.ends(_share)),
        Column("to untrained", lambda row: "" if row.name == UNTRAINED else _change(row.difference.middle)),
        Column(
            "95 %, paired",
            lambda row: "" if row.name == UNTRAINED else row.difference.ends(_change),
        ),
    )
    return Table(f"Accuracy on {accuracies[0].questions} {part} questions", columns, accuracies)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _change(value: float) -> str:
    return f"{value:+.1%}"
