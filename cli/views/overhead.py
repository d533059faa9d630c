"""View of `adaptare overhead`."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import between, milliseconds, per_second, percent
from adaptare.views import energy, merge_or_swap
from adaptare.workflows.comparison import compared_sections
from adaptare.workflows.overhead.overhead_report import OverheadReport
from adaptare.workflows.overhead.overhead_rows import Row, Slope
from adaptare.workflows.overhead.request_rows import Request


def interval(row: Row | Request) -> str:
    """Formatted interval of an overhead."""
    return between(row.overhead_lower, row.overhead_upper, percent, within_one_opening=row.within_one_opening)


ROWS: Final[tuple[Column[Row], ...]] = (
    Column("phase", lambda row: f"{row.phase} {row.length}"),
    Column(
        "adapter", lambda row: f"{row.placement} r{row.rank}{'' if row.kind == 'lora' else ' ' + row.kind}", folds=True
    ),
    Column("mode", lambda row: row.mode),
    Column("base ms", lambda row: milliseconds(row.base_s), 3),
    Column("with adapter ms", lambda row: milliseconds(row.latency_s), 1),
    Column("tokens/s", lambda row: per_second(row.tokens_per_s), 4),
    Column("overhead", lambda row: percent(row.overhead)),
    Column("95 % interval", interval),
    Column("verdict", lambda row: row.verdict, 2),
)
REQUESTS: Final[tuple[Column[Request], ...]] = (
    Column("adapter", lambda row: f"{row.placement} r{row.rank}"),
    Column("prompt", lambda row: str(row.prompt)),
    Column("mode", lambda row: row.mode),
    Column("first token ms", lambda row: milliseconds(row.first_token_s), 3),
    Column("ms per token", lambda row: milliseconds(row.token_s), 2),
    Column("total ms", lambda row: milliseconds(row.total_s), 1),
    Column("base ms", lambda row: milliseconds(row.base_s), 4),
    Column("tokens/s", lambda row: per_second(row.tokens_per_s), 5),
    Column("overhead", lambda row: percent(row.overhead)),
    Column("95 %", interval),
)


def sections(report: OverheadReport) -> Iterator[Section]:
    """A table of all rows, and the results derived from them."""
    yield Table(report.title, ROWS, report.rows)
    yield from remarks(report)


def remarks(report: OverheadReport) -> Iterator[Section]:
    """Everything that is displayed below the table of the rows."""
    for row in report.rows:
        if row.mode == "merged":
            yield (
                f"{row.phase} {row.length}, {row.placement} r{row.rank}: merged runs the graph of the base, so its "
                f"overhead of {percent(row.overhead)} {interval(row)} is measurement error"
            )
    yield from map(_slope, report.slopes)
    if report.price:
        yield Note(report.price)
    for name, compared in report.differences.items():
        yield from compared_sections(compared, f"{name} compared with {report.first}")
    if report.requests:
        yield _requests(report.requests)
    if report.energy:
        yield energy.section(report.energy)
    if report.merge_or_swap:
        yield from merge_or_swap.sections(report.merge_or_swap)
    words = ["adaptare", "profile", report.place["model"], "--device", report.device_name]
    yield Note(f"next, to predict other adapters: {shlex.join(words)}")


def exit_code(report: OverheadReport) -> ExitCode:
    """3 if anything could not be measured, loaded or counted."""
    ways = report.merge_or_swap and report.merge_or_swap.failures
    failed = report.failures or ways or (report.energy and report.energy.failed)
    return ExitCode.WORLD_FAILED if failed else ExitCode.DONE


def _slope(slope: Slope) -> str:
    cause = "one more rank on every site" if slope.per == "rank" else "one more adapted linear"
    ends = between(slope.lower_s, slope.upper_s, _microseconds, within_one_opening=slope.within_one_opening)
    where = f"{slope.phase} {slope.length}, {slope.placement}"
    return f"{where}: {cause} adds {_microseconds(slope.seconds)} us {ends}"


def _requests(requests: Sequence[Request]) -> Table[Request]:
    prompts = " or ".join(dict.fromkeys(str(row.prompt) for row in requests))
    after = f"the first token and {requests[0].generated} more, composed of the rows above"
    return Table(f"Requests of {prompts} tokens: {after}", REQUESTS, requests)


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:.1f}"
