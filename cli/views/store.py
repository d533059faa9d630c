from collections.abc import Iterator
from typing import Final

from adaptare.core.chart import Chart, Panel, Series
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import COMPOSED, counted
from adaptare.profiler.store import Salvage
from adaptare.views import command_line
from adaptare.workflows.comparison import named
from adaptare.workflows.reporting.store_report import Contents, Sessions, StoredKind, Timeline

# Reasons that are shown; JSON has all.
SHOWN: Final = 5
# Sessions that are drawn, of a store of many.
DRAWN: Final = 12
COLUMNS: Final[tuple[Column[StoredKind], ...]] = (
    Column(
        "workloads",
        lambda kind: kind.workload + ", dora" * (kind.kind == "dora") + COMPOSED * (kind.origin == "composed"),
    ),
    Column("model", lambda kind: ", ".join(kind.model.split(", ")[:2]), 3, folds=True),
    Column("adapters", lambda kind: str(kind.adapters)),
    Column("rows", lambda kind: str(kind.rows)),
    Column("incomplete", lambda kind: str(kind.incomplete), 1),
    Column("sessions", lambda kind: str(kind.sessions)),
    Column("last", lambda kind: kind.last[:10], 2),
)


def sections(contents: Contents) -> Iterator[Section]:
    """A table for each device."""
    for device in dict.fromkeys(kind.device for kind in contents.kinds):
        yield Table(named(device), COLUMNS, [kind for kind in contents.kinds if kind.device == device])
    yield f"{sum(kind.rows for kind in contents.kinds)} measurements in {contents.store}"
    yield Note(f"next: {command_line('fit', '--store', contents.store)}")


def salvage_sections(result: Salvage) -> Iterator[Section]:
    """Numbers of kept and lost measurements, and the first reasons."""
    yield f"{counted(result.kept, 'measurement')} of {result.store} kept in {result.new}, {len(result.lost)} lost"
    for number, reason in list(result.lost.items())[:SHOWN]:
        yield Note(f"measurement {number}: {reason}")
    for number, reason in list(result.uninterpreted.items())[:SHOWN]:
        yield Note(f"measurement {number} is kept as it is; this installation cannot interpret it: {reason}")
    if result.obsolete:
        yield Note(f"{counted(result.obsolete, 'measurement')} of an earlier version left out, which no version reads")
    yield Note(f"next: {command_line('store', result.new)}")


def charts(sessions: Sessions) -> Iterator[Chart]:
    """The reference through the latest sessions, with changes of its speed, and how intervals became narrower."""
    for number, each in enumerate(sessions.timelines[-DRAWN:], start=1):
        mark = f"-{number}" if len(sessions.timelines) > 1 else ""
        panels = [_reference(each), *[_half_widths(each)] * (len(each.half_widths) > 1)]
        if each.rounds:
            yield Chart(
                f"session{mark}", f"Session of {each.taken_at[:16].replace('T', ' ')} UTC, {each.device}", panels
            )


def _reference(each: Timeline) -> Panel:
    seconds = dict(zip(each.rounds, each.reference_s, strict=True))
    series = [Series("reference", each.rounds, [1e3 * value for value in each.reference_s], style="line")]
    if each.changes:
        at = [1e3 * seconds[number] for number in each.changes]
        series.append(Series("alarm: speed changed by more than 5 %", each.changes, at))
    return Panel("reference", "round", "latency of the reference, ms", series)


def _half_widths(each: Timeline) -> Panel:
    widths = Series(
        "widest interval", list(each.half_widths), [100 * width for width in each.half_widths.values()], style="line"
    )
    return Panel("precision", "openings", "widest half-width, % (95 %)", [widths])
