from collections.abc import Callable, Iterator

from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import displayed
from adaptare.profiler.analysis import Interval
from adaptare.views.accuracies import accuracy_table
from adaptare.workflows.search.result import Choice, SearchResult

ONLY = "only a measurement can say that a budget is met"


def sections(result: SearchResult) -> Iterator[Section]:
    """Winners and baselines with their predictions and losses, and accuracies."""
    if merged := result.merged_instead:
        yield Note(
            f"where one adapter is enough, merge it: {merged.name} adds no latency, and its test loss of "
            f"{loss(merged.test_loss)} is not measurably worse than that of winner 1 "
            f"({_difference(merged.loss_difference)}); the winners are for adapters that are swapped at run time"
        )
    for each in result.under_each:
        yield choices(each, (*each.winners, *each.baselines))
    if result.accuracies:
        yield accuracy_table(result.accuracies, "test")
    if outside := [choice.name for choice in result.winners if choice.extrapolates]:
        yield Note(f"outside the profiled range of the predictor: {', '.join(outside)}; intervals are not valid there")
    if result.polished:
        yield f"The first winner with further training, for PEFT: {result.polished}"
    yield f"written: {result.file}; {ONLY}; next: adaptare verify {result.file}"


def choices(result: SearchResult, rows: tuple[Choice, ...]) -> Table[Choice]:
    """Table of choices; columns that no row has are left out."""
    unit, text = displayed(result.budget.unit)
    columns = [
        Column[Choice]("", lambda row: row.name),
        Column[Choice]("sites", lambda row: str(len(row.configuration.ranks)), 1),
        Column[Choice]("ranks of how many linears", lambda row: row.configuration.describe(), 2, folds=True),
        Column[Choice](f"{result.origin} {unit}", lambda row: text(row.predicted.middle)),
        Column[Choice](
            f"{result.level:.0%}, {_where(result)}",
            lambda row: row.predicted.ends(text),
        ),
    ]
    if any(row.found_by for row in rows):
        columns.append(Column("found by", lambda row: row.found_by, 2))
    if any(row.energy_lost is not None for row in rows):
        columns.append(Column("energy kept", lambda row: _text(row.energy_lost, lambda lost: f"{1 - lost:.1%}"), 1))
    if any(row.test_loss is not None for row in rows):
        columns += [
            Column("loss", lambda row: loss(row.val_loss)),
            Column("test loss", lambda row: loss(row.test_loss)),
        ]
    if any(row.loss_difference for row in rows):
        columns.append(Column("to winner 1, 95 %", lambda row: _difference(row.loss_difference), 3))
    bounds = f"{text(result.limit)} {unit}; base {text(result.base)} {unit}"
    return Table(f"Budget {result.budget}: {bounds}", columns, rows)


def _where(result: SearchResult) -> str:
    if result.budget.relative:
        return "at this base"
    return "this session" if result.recalibration else "a new session"


def loss(value: float | None) -> str:
    """Nats per token."""
    return _text(value, lambda nats: f"{nats:.3f}")


def _text(value: float | None, text: Callable[[float], str]) -> str:
    return "" if value is None else text(value)


def _difference(interval: Interval | None) -> str:
    if interval is None:
        return ""
    return f"{interval.middle:+.3f} {interval.ends(lambda nats: f'{nats:+.3f}')}"
