from collections.abc import Callable, Iterator, Mapping
from string import ascii_uppercase

from adaptare.core.chart import Chart, Panel
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import milliseconds, percent
from adaptare.exit_codes import ExitCode
from adaptare.views import overhead
from adaptare.workflows.overhead.overhead_rows import Row
from adaptare.workflows.overhead.side_by_side import DeviceResult, SideBySide
from adaptare.workflows.reporting.store_report import MIXED

Key = tuple[str, int, str, int, str, str]


def sections(result: SideBySide) -> Iterator[Section]:
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
            yield f"{letter}: {overhead.title(device.report)}"
        else:
            yield Note(f"{letter}: {device.spelling}: {device.problem}")
    for letter, report in reports.items():
        for section in overhead.remarks(report):
            yield f"{letter}: {section}" if isinstance(section, str) else section
    if len(reports) < len(named):
        yield Note("what was measured is kept; the same command with --resume measures only what is missing")


def exit_code(result: SideBySide) -> ExitCode:
    """The largest exit code of a device."""
    return max(map(_code, result.devices))


def _code(device: DeviceResult) -> ExitCode:
    if device.report:
        return overhead.exit_code(device.report)
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
        Column(
            f"{letter}: overhead", cell(lambda row: f"{percent(row.overhead)} {overhead.interval(row)}"), folds=True
        ),
    ]


def charts(result: SideBySide) -> Iterator[Chart]:
    """Overhead of the same adapters on several devices; one panel for each phase, one colour for each device."""
    named = [(device.spelling, device.report.rows) for device in result.devices if device.report]
    panels = []
    for title in dict.fromkeys(title for _, rows in named for title, _ in overhead.by_phase(rows)):
        series = []
        for name, rows in named:
            here = [row for row in dict(overhead.by_phase(rows)).get(title, []) if row.placement != MIXED]
            places = [f"{overhead.adapter_name(row)}, {row.mode}" for row in here]
            series.append(overhead.series_of(name, here, places, "points"))
        panels.append(Panel(title, "adapter and mode", overhead.OVERHEAD, series, {"base": 0.0}))
    if panels:
        yield Chart("side-by-side", "Overhead of the same adapters on each device", panels)
