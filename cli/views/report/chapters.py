from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Final

from adaptare.core.chart import Chart
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import megabytes
from adaptare.predictor import FittedPredictor
from adaptare.views import (
    calls,
    compare,
    fit,
    overhead,
    profile_adapters,
    search,
    store,
    train,
    verify,
)
from adaptare.workflows.comparison import Comparison
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.fit.predicting import PredictResult
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.overhead_rows import Row
from adaptare.workflows.overhead.side_by_side import SideBySide
from adaptare.workflows.profiling.calls import OperatorsResult, PartsResult
from adaptare.workflows.profiling.space_report import SpaceReport
from adaptare.workflows.reporting.store_report import Sessions, StoreReport
from adaptare.workflows.search.result import SearchResult
from adaptare.workflows.target import spelled
from adaptare.workflows.train.result import TrainResult

MEMORY: Sequence[Column[Row]] = (
    Column("phase", lambda row: f"{row.phase} {row.length}"),
    Column("adapter", lambda row: f"{row.placement} r{row.rank}", folds=True),
    Column("linears", lambda row: str(row.sites)),
    Column("mode", lambda row: row.mode),
    Column("memory added by loading, MB", lambda row: megabytes(row.resident_bytes)),
    Column("loading s", lambda row: f"{row.load_s:.3g}"),
)
LINEARS: Column[Row] = Column("linears", lambda row: str(row.sites))
# Headings and views of results that have one chapter without charts.
PLAIN: Final[Mapping[type[Any], tuple[str, Callable[[Any], Iterator[Section]]]]] = {
    SpaceReport: ("Profiled configurations", profile_adapters.sections),
    PredictResult: ("Predictions", fit.predicted_sections),
    Comparison: ("Comparison", compare.sections),
    TrainResult: ("Training", train.sections),
}
# Beginnings of lines for who has just run a command.
NEXT_STEPS: Final = ("next", "written: ")


@dataclass(frozen=True)
class Chapter:
    """Charts, and the tables and sentences of the same results, without the next steps after a command."""

    heading: str
    charts: Sequence[Chart] = ()
    sections: Sequence[Section] = ()

    def __post_init__(self) -> None:
        kept = [each for each in self.sections if not _text(each).startswith(NEXT_STEPS)]
        object.__setattr__(self, "sections", kept)


@singledispatch
def chapters(result: Any) -> Iterator[Chapter]:
    """Chapters about a result, by the charts and views of its type."""
    heading, sections = PLAIN[type(result)]
    yield Chapter(heading, sections=list(sections(result)))


@chapters.register
def _(result: OverheadReport) -> Iterator[Chapter]:
    yield from _overhead(result, list(overhead.sections(replace(result, merge_or_swap=None))))
    if result.merge_or_swap:
        ways = result.merge_or_swap
        yield Chapter("Merge or swap", [overhead.chart_of_ways(ways)], list(overhead.ways(ways)))


@chapters.register
def _(result: SideBySide) -> Iterator[Chapter]:
    yield Chapter("Side by side", list(overhead.charts_of_several(result)), list(overhead.sections_of_several(result)))
    for device in result.devices:
        if device.report:
            for chapter in chapters(device.report):
                yield replace(chapter, heading=f"{chapter.heading}, {device.spelling}")


@chapters.register
def _(result: StoreReport) -> Iterator[Chapter]:
    yield Chapter("Measurements", sections=list(store.sections(result.contents)))
    for report in result.reports:
        table = Table(overhead.title(report), (overhead.ROWS[0], LINEARS, *overhead.ROWS[1:]), report.rows)
        base = spelled(report.device, report.quantisation, report.dtype)
        yield from _overhead(report, [table], name=f", {base}" * (len(result.reports) > 1))
    yield from chapters(result.sessions)


@chapters.register
def _(result: Sessions) -> Iterator[Chapter]:
    if not result.timelines:
        return
    shown, count = store.DRAWN, len(result.timelines)
    alarms = [f"{each.session}, {each.device}: {alarm}" for each in result.timelines for alarm in each.alarms]
    said = alarms or ["no session has an alarm: the device kept its speed, and every program a steady state"]
    few = [f"the latest {shown} of {count} sessions are drawn"] * (count > shown)
    yield Chapter("Sessions", list(store.charts(result)), [*said, *few])


@chapters.register
def _(result: FitResult | FittedPredictor) -> Iterator[Chapter]:
    drawn = [fit.parity(result)] if isinstance(result, FitResult) and result.held_out else []
    yield Chapter(f"Predictor of {result.quantity}", drawn, list(fit.error_sections(result)))


@chapters.register
def _(result: SearchResult) -> Iterator[Chapter]:
    measured = any(choice.measured for choice in (*result.winners, *result.baselines))
    tables = [search.choices(each, (*each.winners, *each.baselines)) for each in result.under_each]
    sections: list[Section] = [
        *search.front_words(result),
        *tables,
        *(verify.verdicts(result) if measured else [search.ONLY]),
    ]
    yield Chapter("Winners under the budget", list(search.charts(result)), sections)
    maps = list(search.heat_maps(result))
    if maps:
        yield Chapter("Where the winners have their ranks", maps)


@chapters.register
def _(result: OperatorsResult) -> Iterator[Chapter]:
    yield Chapter("Where the time goes", list(calls.charts(result)), list(calls.operator_sections(result)))


@chapters.register
def _(result: PartsResult) -> Iterator[Chapter]:
    yield Chapter("Parts of the model", list(calls.part_charts(result)), list(calls.part_sections(result)))


def _text(section: Section) -> str:
    if isinstance(section, Note):
        return section.text
    return section if isinstance(section, str) else ""


def _overhead(report: OverheadReport, sections: Sequence[Section], *, name: str = "") -> Iterator[Chapter]:
    failed = [f"not measured: {each.mode} {each.placement} r{each.rank}: {each.reason}" for each in report.failures]
    drawn = list(overhead.charts(report)) if report.rows else []
    yield Chapter(f"Overhead{name}", drawn, [*sections, *failed])
    if loaded := [row for row in report.rows if row.resident_bytes]:
        table = Table("Memory that loading a program adds", MEMORY, loaded)
        yield Chapter(f"Memory{name}", list(overhead.memory(report)), [table])
