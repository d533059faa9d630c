from collections.abc import Iterator, Sequence
from typing import Final

from adaptare.core.chart import Chart, Panel, Place, Series, Style
from adaptare.views import overhead
from adaptare.workflows.overhead.merge_or_swap import MergeOrSwap
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.overhead_rows import Row
from adaptare.workflows.overhead.side_by_side import SideBySide
from adaptare.workflows.reporting.store_report import MIXED

OVERHEAD: Final = "overhead over the base, %"
MEGABYTE: Final = 1e6


def charts(report: OverheadReport) -> Iterator[Chart]:
    """Overhead over rank, and over the number of adapted linears if that differs."""
    if alike := [row for row in report.rows if row.placement != MIXED]:
        yield over_rank(alike, overhead.title(report))
    unmerged = [row for row in report.rows if row.mode not in ("merged", "requantised")]
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


def ways(result: MergeOrSwap) -> Chart:
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


def compared(result: SideBySide) -> Iterator[Chart]:
    """Overhead of the same adapters on several devices; one panel for each phase, one colour for each device."""
    named = [(device.spelling, device.report.rows) for device in result.devices if device.report]
    panels = []
    for title in dict.fromkeys(title for _, rows in named for title, _ in _by_phase(rows)):
        series = []
        for name, rows in named:
            here = [row for row in dict(_by_phase(rows)).get(title, []) if row.placement != MIXED]
            series.append(_series(name, here, [f"{_name(row)}, {row.mode}" for row in here], "points"))
        panels.append(Panel(title, "adapter and mode", OVERHEAD, series, {"base": 0.0}))
    if panels:
        yield Chart("side-by-side", "Overhead of the same adapters on each device", panels)


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
