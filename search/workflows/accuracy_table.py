"""Table and JSON of accuracies on multiple-choice questions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from adaptare.profiler.results.table import Column, Table
from adaptare.profiler.results.units import between
from adaptare.search.training.accuracy import Accuracy

UNTRAINED: Final = "untrained"
_ENDS: Final = ("lower", "middle", "upper")


def accuracy_table(accuracies: Sequence[Accuracy], part: str) -> Table[Accuracy]:
    """Table of accuracies on one part of the examples, such as `test`."""
    columns: tuple[Column[Accuracy], ...] = (
        Column("", lambda accuracy: accuracy.name),
        Column("right", lambda accuracy: _share(accuracy.share.middle)),
        Column("95 % interval", lambda accuracy: between(accuracy.share.lower, accuracy.share.upper, _share)),
        Column(
            "to untrained", lambda accuracy: "" if accuracy.name == UNTRAINED else _points(accuracy.difference.middle)
        ),
        Column(
            "95 %, paired",
            lambda accuracy: (
                ""
                if accuracy.name == UNTRAINED
                else between(accuracy.difference.lower, accuracy.difference.upper, _points)
            ),
        ),
    )
    return Table(f"Accuracy on {accuracies[0].questions} {part} questions", columns, accuracies)


def accuracies_to_json(accuracies: Sequence[Accuracy]) -> list[dict[str, Any]]:
    """Counts, shares and intervals as plain JSON values."""
    return [
        {
            **asdict(accuracy),
            **{f"accuracy_{end}": getattr(accuracy.share, end) for end in _ENDS},
            **{f"difference_{end}": getattr(accuracy.difference, end) for end in _ENDS},
        }
        for accuracy in accuracies
    ]


def accuracies_from_json(rows: Sequence[Mapping[str, Any]]) -> tuple[Accuracy, ...]:
    """Accuracies from what `accuracies_to_json` gives."""
    return tuple(Accuracy(**{field.name: row[field.name] for field in fields(Accuracy)}) for row in rows)


def _share(value: float) -> str:
    return f"{value:.1%}"


def _points(value: float) -> str:
    return f"{value:+.1%}"
