from collections.abc import Iterator
from typing import Final

from adaptare.arguments import DEFAULT_STORE
from adaptare.core.table import Column, Section, Table
from adaptare.core.units import COMPOSED, milliseconds, percent
from adaptare.exit_codes import ExitCode
from adaptare.predictor import LatencyPredictor
from adaptare.profiler.workloads import kind_named
from adaptare.views import command_line
from adaptare.workflows.profiling.space_report import SpaceReport, SpaceRow
from adaptare.workflows.target import spelled

COLUMNS: Final[tuple[Column[SpaceRow], ...]] = (
    Column("sites", lambda row: str(row.sites)),
    Column("adapter weights", lambda row: f"{row.parameters:,}", 1),
    Column("latency ms", lambda row: milliseconds(row.latency.middle)),
    Column("95 % interval", lambda row: row.latency.ends(milliseconds, too_few_openings=row.too_few_openings)),
    Column("overhead", lambda row: percent(row.over_base.middle)),
)


def sections(report: SpaceReport) -> Iterator[Section]:
    """A table of all configurations, and the command that fits a predictor to them."""
    cut = dict.fromkeys(key for row in report.rows for key, share in row.kept.items() if share < 1)
    device = spelled(report.device, report.quantisation, report.dtype)
    opened, composed = " open" * report.open, COMPOSED * (report.origin == "composed")
    title = f"{report.model} on {device}, {report.phase} {report.length}, {report.mode}{opened}{composed}"
    yield Table(title, (*map(_kept, cut), *COLUMNS), report.rows)
    fewest = LatencyPredictor().fewest_adapters
    if report.adapters < fewest:
        how = "the same command again" if report.left else "profile more, such as --count 24"
        yield f"next: {how}; a predictor is fitted to at least {fewest} adapters"
    else:
        yield f"next: {command_line('fit', '--device', device, *_chosen(report))}"


def _kept(key: str) -> Column[SpaceRow]:
    kind = kind_named(key)
    return Column(f"{kind.label or kind.name} kept", lambda row: f"{row.kept[key]:.0%}")


def exit_code(report: SpaceReport) -> ExitCode:
    """3 if something could not be measured, 1 if the wanted error is not reached."""
    if report.failed:
        return ExitCode.WORLD_FAILED
    reached = report.error_reached is not None and report.error_reached <= (report.error_wanted or 0.0)
    return ExitCode.DONE if report.error_wanted is None or reached else ExitCode.ANSWER_IS_NO


def _chosen(report: SpaceReport) -> list[str]:
    """Options that select these rows in `adaptare fit`; fewer if they are the only rows of the device."""
    store = [] if report.store == DEFAULT_STORE else ["--store", report.store]
    if report.alone:
        return store
    phase = ["-p" if report.phase == "prefill" else "-d", str(report.length)]
    options = ["--batch", str(report.batch), "--mode", report.mode, "--model", report.model]
    return [*store, *phase, *options, "--open" if report.open else "--cut"]
