from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from adaptare.core.chart import Chart, Panel, Series
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import milliseconds, percent
from adaptare.profiler.analysis import Interval
from adaptare.workflows.profiling.calls import OperatorRow, OperatorsResult, PartRow, PartsResult
from adaptare.workflows.target import spelled

# Operators beyond these rows and below this share of the profiled call are summed in one row.
SHOWN_ROWS = 12
SHOWN_SHARE = 0.005


@dataclass(frozen=True)
class OperatorLine:
    """One table line: an operator, a sum of several, or a total, which has no number of calls."""

    title: str
    base_s: float
    adapted_s: float
    share: float | None
    base_calls: float | None = None
    adapted_calls: float | None = None

    @classmethod
    def of(cls, title: str, rows: Sequence[OperatorRow]) -> "OperatorLine":
        """Sum of some rows."""
        names = ("base_s", "adapted_s", "adapted_share", "base_calls", "adapted_calls")
        return cls(title, *(sum(getattr(row, name) for row in rows) for name in names))


OPERATORS: Final[tuple[Column[OperatorLine], ...]] = (
    Column("operator", lambda line: line.title),
    Column("base calls", lambda line: "" if line.base_calls is None else f"{line.base_calls:.4g}", 2),
    Column("adapter calls", lambda line: "" if line.adapted_calls is None else f"{line.adapted_calls:.4g}", 1),
    Column("base ms", lambda line: milliseconds(line.base_s)),
    Column("adapter ms", lambda line: milliseconds(line.adapted_s)),
    Column("share", lambda line: "" if line.share is None else f"{line.share:.1%}", 3),
    Column("difference ms", lambda line: f"{1e3 * (line.adapted_s - line.base_s):+.3f}"),
)


def operator_sections(result: OperatorsResult) -> Iterator[Section]:
    """A table of operators and totals, and the effect of the profiler."""
    base, adapted = result.base, result.adapted
    device = spelled(result.device, result.quantisation, result.dtype)
    adapter = f"{result.placement} r{result.rank}, {result.mode}"
    totals = [
        OperatorLine("outside operators", base.outside_s, adapted.outside_s, adapted.outside_s / adapted.profiled_s),
        OperatorLine("total, profiled", base.profiled_s, adapted.profiled_s, 1.0),
        OperatorLine("total, not profiled", base.plain_s, adapted.plain_s, None),
    ]
    yield Table(
        f"{result.model} on {device}, {result.phase} {result.length}: {adapter}",
        OPERATORS,
        [*lines_of(result), *totals],
    )
    yield (
        f"the profiler makes a call {base.slowdown:.3g} times as long without adapter, "
        f"{adapted.slowdown:.3g} times with it"
    )
    if short := sum(row.short for row in result.operators):
        yield Note(
            f"{short} of {len(result.operators)} kinds of operators (marked ~) take below 50 µs each time, much of "
            "which may be the profiler's own: their counts are exact, their times are not; adaptare overhead measures "
            "the cost"
        )


def lines_of(result: OperatorsResult) -> list[OperatorLine]:
    """A line for each operator, most expensive first, and one for all that take little."""
    rows, least_s = result.operators, SHOWN_SHARE * result.adapted.profiled_s
    shown = max(SHOWN_ROWS, sum(max(row.adapted_s, row.base_s) >= least_s for row in rows))
    lines = [OperatorLine.of(f"{'~' if row.short else ''}{row.operator}", [row]) for row in rows[:shown]]
    rest = rows[shown:]
    return [*lines, OperatorLine.of(f"{len(rest)} others", rest)] if rest else lines


def charts(result: OperatorsResult) -> Iterator[Chart]:
    """Milliseconds of each operator, without and with the adapter."""
    lines = lines_of(result)
    names = [line.title for line in lines]
    series = [
        Series("base", names, [1e3 * line.base_s for line in lines], style="bars"),
        Series("with adapter", names, [1e3 * line.adapted_s for line in lines], style="bars"),
    ]
    panel = Panel(f"{result.phase} {result.length}, {result.mode}", "operator", "ms of one profiled call", series)
    yield Chart("operators", "Where the time of a call goes", [panel])


# Name, and latency with cold and with hot caches; the whole model has one latency.
NamedPart = tuple[str, PartRow, PartRow | None]
TOGETHER: Final = "together"


def part_sections(result: PartsResult) -> Iterator[Section]:
    """Every kind of block, the head, their sum and the whole; the error of the sum."""

    def share(part: NamedPart) -> str:
        _, cold, hot = part
        return f"{(cold.layers or 1) * cold.latency.middle / result.whole_s:.1%}" if hot else ""

    columns: tuple[Column[NamedPart], ...] = (
        Column("part", lambda part: part[0]),
        Column("layers", lambda part: str(part[1].layers or "")),
        Column("cold ms", lambda part: milliseconds(part[1].latency.middle)),
        Column("hot ms", lambda part: milliseconds(part[2].latency.middle) if part[2] else ""),
        Column("cold, of the whole", share),
    )
    whole = PartRow(Interval(*(result.whole_s,) * 3), 0)
    what = f"{result.sites} adapters, {result.mode}" if result.sites else "the base"
    device = spelled(result.device, result.quantisation, result.dtype)
    title = f"{result.model} on {device}, {result.phase} {result.length}: {what}"
    yield Table(title, columns, [*_named_parts(result), ("the whole", whole, None)])
    for caches, parts in result.parts.items():
        over = parts.over_whole.over_one
        ends = over.ends(percent, too_few_openings=parts.together.too_few_openings)
        yield f"the sum of the {caches} parts differs from the whole by {percent(over.middle)} {ends}"


def part_charts(result: PartsResult) -> Iterator[Chart]:
    """Milliseconds of all blocks of a kind and of the head, with cold and with hot caches, beside the whole model."""
    parts = [each for each in _named_parts(result) if each[0] != TOGETHER]
    names = [f"{name} x {cold.layers}" if cold.layers > 1 else name for name, cold, _ in parts]
    if len(set(names)) < len(names):  # blocks whose ranks differ in their order alone
        names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    series = [
        _milliseconds_of("cold caches", names, [cold for _, cold, _ in parts]),
        _milliseconds_of("hot caches", names, [hot for _, _, hot in parts]),
    ]
    title, levels = f"{result.phase} {result.length}, {result.mode}", {"the whole model": 1e3 * result.whole_s}
    yield Chart("parts", "Blocks and head beside the whole model", [Panel(title, "part", "ms", series, levels)])


def _milliseconds_of(name: str, places: Sequence[str], rows: Sequence[PartRow]) -> Series:
    """All layers of each part, with intervals."""
    scaled = [(1e3 * (row.layers or 1), row.latency) for row in rows]
    lower, middle, upper = (
        [factor * getattr(latency, end) for factor, latency in scaled] for end in ("lower", "middle", "upper")
    )
    return Series(name, places, middle, lower, upper, style="bars")


def _named_parts(result: PartsResult) -> Iterator[tuple[str, PartRow, PartRow]]:
    """Name of each part and of their sum, and its latency with cold and with hot caches."""
    cold, hot = result.parts["cold"], result.parts["hot"]
    for own, other in zip(cold.blocks, hot.blocks, strict=True):
        yield _kind(own) if len(cold.blocks) > 1 else "block", own, other
    yield "head", cold.head, hot.head
    yield TOGETHER, cold.together, hot.together


def _kind(block: PartRow) -> str:
    return f"block, {len(block.ranks)} sites up to r{max(block.ranks.values())}" if block.ranks else "block, no adapter"
