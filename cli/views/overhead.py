import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase
from typing import Final

from adaptare.core.chart import Chart, Panel, Place, Series, Style
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import COMPOSED, energy, megabytes, milliseconds, per_second, percent
from adaptare.exit_codes import ExitCode
from adaptare.profiler.workloads import IN_WEIGHTS
from adaptare.views import command_line
from adaptare.views.compare import compared
from adaptare.workflows.overhead.merge_or_swap import MergeOrSwap, Way
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.overhead_rows import ComposedRequest, EnergyRow, PriceOfPrecision, Row, Slope
from adaptare.workflows.overhead.side_by_side import DeviceResult, SideBySide
from adaptare.workflows.reporting.store_report import MIXED
from adaptare.workflows.target import spelled

A_DAY_S: Final = 24 * 60 * 60
OVERHEAD: Final = "overhead over the base, %"
MEGABYTE: Final = 1e6
Key = tuple[str, int, str, int, str, str]


def interval(row: Row | ComposedRequest) -> str:
    """Formatted interval of an overhead."""
    return row.over_base.ends(percent, too_few_openings=row.too_few_openings)


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
    Column("95 % interval", interval, folds=True),
    Column("verdict", lambda row: row.verdict, 2),
)
REQUESTS: Final[tuple[Column[ComposedRequest], ...]] = (
    Column("adapter", lambda row: f"{row.placement} r{row.rank}"),
    Column("prompt", lambda row: str(row.prompt)),
    Column("mode", lambda row: row.mode),
    Column("first token ms", lambda row: milliseconds(row.first_token_s), 3),
    Column("ms per token", lambda row: milliseconds(row.token_s), 2),
    Column("total ms", lambda row: milliseconds(row.total.middle), 1),
    Column("base ms", lambda row: milliseconds(row.base_s), 4),
    Column("tokens/s", lambda row: per_second(row.tokens_per_s), 5),
    Column("overhead", lambda row: percent(row.over_base.middle)),
    Column("95 %", interval),
)
ENERGY: Final[tuple[Column[EnergyRow], ...]] = (
    Column("phase", lambda row: f"{row.phase} {row.length}"),
    Column("placement", lambda row: f"{row.placement} r{row.rank}" if row.mode else row.placement, folds=True),
    Column("mode", lambda row: row.mode),
    Column("energy", lambda row: energy(row.joules.middle)),
    Column("95 %", lambda row: row.joules.ends(energy), 1),
    Column("W", lambda row: f"{row.watts:.3g}", 2),
    Column(
        "over the base",
        lambda row: f"{percent(row.over_base.middle)} {row.over_base.ends(percent)}" if row.over_base else "",
    ),
)
WAYS: Final[tuple[Column[Way], ...]] = (
    Column("mode", lambda way: way.mode),
    Column("disk MB", lambda way: megabytes(way.disk_bytes)),
    Column("memory MB, one task", lambda way: _known_megabytes(way.memory_bytes)),
    Column("all", lambda way: _known_megabytes(way.memory_of_all_bytes), 2),
    Column("peak MB", lambda way: _known_megabytes(way.peak_bytes), 3),
    Column("change of task ms", lambda way: milliseconds(way.swap_s.middle)),
    Column("cold", lambda way: "" if way.cold_swap_s is None else milliseconds(way.cold_swap_s.middle), 1),
    Column("ms", lambda way: f"{way.phase} {milliseconds(way.latency_s.middle)}", 4),
    Column("overhead", lambda way: percent(way.overhead)),
)


def _known_megabytes(count: int) -> str:
    return megabytes(count) if count else ""


def title(report: OverheadReport) -> str:
    """Title of the table of all rows."""
    device = spelled(report.device, report.quantisation, report.dtype)
    composed = COMPOSED * (report.origin == "composed")
    return f"{report.model} on {device}: adapters on up to {report.linears} linears{composed}"


def sections(report: OverheadReport) -> Iterator[Section]:
    """A table of all rows, and the results derived from them."""
    yield Table(title(report), ROWS, report.rows)
    yield from remarks(report)


def remarks(report: OverheadReport) -> Iterator[Section]:
    """Everything that is displayed below the table of the rows."""
    if any(row.mode == "merged" for row in report.rows):
        yield "merged adapters run the graph of the base, so their overheads here are measurement error"
    yield from map(_slope, report.slopes)
    if report.price:
        yield Note(price_words(report.price))
    for name, rows in report.differences.items():
        yield from compared(rows, f"{name} compared with {report.first}")
    if report.requests:
        prompts = " or ".join(dict.fromkeys(str(row.prompt) for row in report.requests))
        after = f"the first token and {report.requests[0].generated} more, composed of the rows above"
        yield Table(f"Requests of {prompts} tokens: {after}", REQUESTS, report.requests)
    if report.energy:
        reason = report.energy.reason
        table = Table("energy of a call, with all that the device draws meanwhile", ENERGY, report.energy.rows)
        yield f"energy: {reason}" if reason else table
    if report.merge_or_swap:
        yield from ways(report.merge_or_swap)
    device = spelled(report.device, report.quantisation, report.dtype)
    yield Note(f"next, to predict other adapters: {command_line('profile', report.model, '--device', device)}")


def exit_code(report: OverheadReport) -> ExitCode:
    """3 if anything could not be measured, loaded or counted."""
    ways = report.merge_or_swap and report.merge_or_swap.failures
    failed = report.failures or ways or (report.energy and report.energy.failed)
    return ExitCode.WORLD_FAILED if failed else ExitCode.DONE


def _slope(slope: Slope) -> str:
    cause = "one more rank on every site" if slope.per == "rank" else "one more adapted linear"
    interval = slope.seconds.ends(_microseconds, too_few_openings=slope.too_few_openings)
    where = f"{slope.phase} {slope.length}, {slope.placement}"
    return f"{where}: {cause} adds {_microseconds(slope.seconds.middle)} µs {interval}"


def price_words(price: PriceOfPrecision) -> str:
    """Time for narrower intervals, with the options that ask for them."""
    share = f"±{100 * price.half_width:.2g} %"
    if price.seconds > A_DAY_S:
        return f"{share} is out of reach: openings differ too much; close other programs and repeat"
    rounded_s = 10 * math.ceil(price.seconds / 10)
    time = f"{rounded_s} s" if rounded_s < 100 else f"{rounded_s / 60:.0f} min"
    of_each = " for each phase" if price.phases > 1 else ""
    options = f"--half-width {100 * price.half_width:g}% --seconds {rounded_s}"
    return f"{share} would take about {time}{of_each}: {options}"


def ways(result: MergeOrSwap) -> Iterator[Section]:
    """Merging and swapping for several tasks: a table, failures, and the conclusion."""
    adapters = f"adapters of {megabytes(result.adapter_bytes)} MB, a base of {megabytes(result.base_bytes)} MB"
    title = f"Merge or swap for {result.tasks} tasks, {result.placement} r{result.rank}: {adapters}"
    yield Table(title, WAYS, result.ways)
    yield from (Note(f"not loaded: {mode}: {reason}") for mode, reason in result.failures.items())
    if result.conclusion:
        yield result.conclusion


def _microseconds(seconds: float) -> str:
    return f"{1e6 * seconds:z.1f}"


def charts(report: OverheadReport) -> Iterator[Chart]:
    """Overhead over rank, and over the number of adapted linears if that differs."""
    if alike := [row for row in report.rows if row.placement != MIXED]:
        yield over_rank(alike, title(report))
    unmerged = [row for row in report.rows if row.mode not in IN_WEIGHTS]
    if len({row.sites for row in unmerged}) > 1:
        yield Chart("overhead-over-linears", "Overhead over the number of adapted linears", _over_linears(unmerged))


def over_rank(rows: Sequence[Row], title: str) -> Chart:
    """Overhead over rank with intervals; one panel for each phase, one line for each placement and mode."""
    panels = []
    for name, here in _by_phase(rows):
        lines = dict.fromkeys((row.placement, row.mode) for row in here)
        ranked = sorted(here, key=lambda row: row.rank)
        some = [[row for row in ranked if (row.placement, row.mode) == line] for line in lines]
        series = [
            _series(", ".join(line), own, [row.rank for row in own], "line")
            for line, own in zip(lines, some, strict=True)
        ]
        panels.append(Panel(f"{name}, base {1e3 * here[0].base_s:.3g} ms", "rank", OVERHEAD, series, {"base": 0.0}))
    return Chart("overhead-over-rank", title, panels)


def memory(report: OverheadReport) -> Iterator[Chart]:
    """Memory that each program takes when it is loaded."""
    panels = []
    for title, rows in _by_phase([row for row in report.rows if row.resident_bytes and row.placement != MIXED]):
        series = [
            Series(mode, list(map(_name, some)), [row.resident_bytes / MEGABYTE for row in some], style="bars")
            for mode, some in _by_mode(rows)
        ]
        panels.append(Panel(title, "adapter", "memory added by loading, MB", series))
    if panels:
        yield Chart("memory", "Resident memory that loading a program adds", panels)


def chart_of_ways(result: MergeOrSwap) -> Chart:
    """Disk, memory and time of a change of task, of each way to serve several tasks."""
    modes = [way.mode for way in result.ways]
    sizes = {
        "disk, all tasks": [way.disk_bytes for way in result.ways],
        "memory, one task": [way.memory_bytes for way in result.ways],
        "memory, all tasks": [way.memory_of_all_bytes for way in result.ways],
    }
    lower, middle, upper = (
        [1e3 * getattr(way.swap_s, end) for way in result.ways] for end in ("lower", "middle", "upper")
    )
    swap = Series("change of task", modes, middle, lower, upper, style="bars")
    series = [Series(name, modes, [size / MEGABYTE for size in some], style="bars") for name, some in sizes.items()]
    panels = [Panel("sizes", "mode", "MB", series), Panel("time of a change of task", "mode", "ms", [swap])]
    return Chart("merge-or-swap", f"Merge or swap for {result.tasks} tasks", panels)


def _over_linears(rows: Sequence[Row]) -> list[Panel]:
    return [
        Panel(
            title,
            "adapted linears",
            OVERHEAD,
            [_series(mode, own, [row.sites for row in own], "points") for mode, own in _by_mode(some)],
            {"base": 0.0},
        )
        for title, some in _by_phase(rows)
    ]


def _series(name: str, rows: Sequence[Row], places: Sequence[Place], style: Style) -> Series:
    lower, middle, upper = ([100 * getattr(row.over_base, end) for row in rows] for end in ("lower", "middle", "upper"))
    return Series(name, places, middle, lower, upper, list(map(_name, rows)), style)


def _by_phase(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    phases = dict.fromkeys((row.phase, row.length) for row in rows)
    return [
        (f"{phase} {length}", [row for row in rows if (row.phase, row.length) == (phase, length)])
        for phase, length in phases
    ]


def _by_mode(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    return [(mode, [row for row in rows if row.mode == mode]) for mode in dict.fromkeys(row.mode for row in rows)]


def _name(row: Row) -> str:
    return f"{row.placement} r{row.rank}"


def sections_of_several(result: SideBySide) -> Iterator[Section]:
    """One table, and below it the remarks on each device."""
    named = dict(zip(ascii_uppercase, result.devices, strict=False))
    reports = {letter: device.report for letter, device in named.items() if device.report}
    rows = {letter: {_key(row): row for row in report.rows} for letter, report in reports.items()}
    keys = list(dict.fromkeys(key for by_key in rows.values() for key in by_key))
    columns: list[Column[Key]] = [Column("adapter", _adapter)]
    for letter, by_key in rows.items():
        columns += _columns_of(letter, by_key)
    if keys:
        yield Table("Overhead of adapters, side by side", tuple(columns), keys)
    for letter, device in named.items():
        if device.report:
            yield f"{letter}: {title(device.report)}"
        else:
            yield Note(f"{letter}: {device.spelling}: {device.problem}")
    for letter, report in reports.items():
        for section in remarks(report):
            if isinstance(section, Table):
                yield replace(section, title=f"{letter}: {section.title}")
            else:
                yield Note(f"{letter}: {section.text}") if isinstance(section, Note) else f"{letter}: {section}"
    if len(reports) < len(named):
        yield Note("what was measured is kept; the same command with --resume measures only what is missing")


def exit_code_of_several(result: SideBySide) -> ExitCode:
    """The largest exit code of a device."""
    return max(map(_code, result.devices))


def _code(device: DeviceResult) -> ExitCode:
    if device.report:
        return exit_code(device.report)
    return ExitCode.BAD_INPUT if device.bad_input else ExitCode.WORLD_FAILED


def _key(row: Row) -> Key:
    return row.phase, row.length, row.placement, row.rank, row.kind, row.mode


def _adapter(key: Key) -> str:
    phase, length, placement, rank, kind, mode = key
    return f"{phase} {length}, {placement} r{rank}{'' if kind == 'lora' else ' ' + kind}, {mode}"


def _columns_of(letter: str, rows: Mapping[Key, Row]) -> list[Column[Key]]:
    """Latency and overhead on one device."""

    def cell(text: Callable[[Row], str]) -> Callable[[Key], str]:
        return lambda key: text(rows[key]) if key in rows else "-"

    return [
        Column(f"{letter}: ms", cell(lambda row: milliseconds(row.latency_s))),
        Column(f"{letter}: overhead", cell(lambda row: f"{percent(row.overhead)} {interval(row)}"), folds=True),
    ]


def charts_of_several(result: SideBySide) -> Iterator[Chart]:
    """Overhead of the same adapters on several devices; one panel for each phase, one colour for each device."""
    named = [(device.spelling, device.report.rows) for device in result.devices if device.report]
    panels = []
    for title in dict.fromkeys(title for _, rows in named for title, _ in _by_phase(rows)):
        series = []
        for name, rows in named:
            here = [row for row in dict(_by_phase(rows)).get(title, []) if row.placement != MIXED]
            places = [f"{_name(row)}, {row.mode}" for row in here]
            series.append(_series(name, here, places, "points"))
        panels.append(Panel(title, "adapter and mode", OVERHEAD, series, {"base": 0.0}))
    if panels:
        yield Chart("side-by-side", "Overhead of the same adapters on each device", panels)
