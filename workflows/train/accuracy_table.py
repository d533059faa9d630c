"""Table and JSON of accuracies on multiple-choice questions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from adaptare.core.table import Column, Table
from adaptare.core.units import between
from adaptare.search.training.accuracy import Accuracy

UNTRAINED: Final = "untrained"
_ENDS: Final = ("lower", "middle", "upper")


def accuracy_table(accuracies: Sequence[Accuracy], part: str) -> Table[Accuracy]:
    """Table of accuracies on one part of the examples, such as `test`."""
    columns: tuple[Column[Accuracy], ...] = (
        Column("", lambda row: row.name),
        Column("right", lambda row: _share(row.share.middle)),
        Column("95 % interval", lambda row: between(row.share.lower, row.share.upper, _share)),
        Column("to untrained", lambda row: "" if row.name == UNTRAINED else _change(row.difference.middle)),
        Column(
            "95 %, paired",
            lambda row: "" if row.name == UNTRAINED else between(row.difference.lower, row.difference.upper, _change),
        ),
    )
    return Table(f"Accuracy on {accuracies[0].questions} {part} questions", columns, accuracies)


def accuracies_to_json(accuracies: Sequence[Accuracy]) -> list[dict[str, Any]]:
    """Counts, shares and intervals as plain JSON values."""
    return [
        {
            **asdict(row),
            **{f"accuracy_{end}": getattr(row.share, end) for end in _ENDS},
            **{f"difference_{end}": getattr(row.difference, end) for end in _ENDS},
        }
        for row in accuracies
    ]


def accuracies_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Accuracy, ...]:
    """Accuracies from what `accuracies_to_json` gives."""
    return tuple(Accuracy(**{field.name: row[field.name] for field in fields(Accuracy)}) for row in rows)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _change(value: float) -> str:
    return f"{value:+.1%}"
