from collections.abc import Iterator

from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import displayed, megabytes, percent
from adaptare.workflows.fit.predicting import PredictedRow, PredictResult


def sections(result: PredictResult) -> Iterator[Section]:
    """A table of the adapters."""
    unit, number = displayed(result.unit)
    columns: list[Column[PredictedRow]] = [
        Column("adapter", lambda row: row.adapter),
        Column("sites", lambda row: str(row.sites), 3),
        Column(unit, lambda row: number(row.predicted.middle)),
        Column(
            f"{result.level:.0%}, {'this' if result.recalibration else 'a new'} session",
            lambda row: row.predicted.ends(number),
        ),
        Column("overhead", lambda row: percent(row.overhead.middle)),
        Column(f"{result.level:.0%}, of it alone", lambda row: row.overhead.ends(percent)),
        Column("memory MB", lambda row: megabytes(row.memory_bytes), 2),
        Column("outside the profiled range", lambda row: "yes" if row.extrapolates else "no", 1),
    ]
    if result.budget:
        columns.append(Column(result.budget, lambda row: "" if row.within is None else f"{row.within:.0%}"))
    base = f"{result.workload}; base {number(result.base)} {unit}"
    yield Table(f"{result.origin.capitalize()} for {result.device}: {base}", columns, result.rows)
    yield Note(f"next: adaptare train MODEL -o FOLDER, then adaptare search FOLDER --predictor {result.predictor}")
