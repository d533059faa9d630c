from collections.abc import Iterator, Sequence
from typing import Final

from adaptare.core.table import Column, Section, Table
from adaptare.core.units import milliseconds, percent
from adaptare.exit_codes import ExitCode
from adaptare.workflows.comparison import Compared, Comparison, counts_of

COLUMNS: Final[tuple[Column[Compared], ...]] = (
    Column("workload", lambda row: row.name if row.origin == "measured" else f"{row.name}, {row.origin}"),
    Column("sites", lambda row: str(row.sites), 1),
    Column("weights", lambda row: f"{row.parameters:,}", 3),
    Column("ms", lambda row: milliseconds(row.one_s), 2),
    Column("ms there", lambda row: milliseconds(row.other_s), 2),
    Column("difference", lambda row: percent(row.difference.middle)),
    Column("95 % interval", lambda row: row.difference.ends(percent, too_few_openings=row.too_few_openings)),
    Column("verdict", lambda row: row.verdict),
)


def sections(comparison: Comparison) -> Iterator[Section]:
    """A table of all workloads, and the number of rows per verdict."""
    kind = "latencies" if comparison.compared == "latency" else "overheads over the base"
    yield from compared(comparison.rows, f"{comparison.other} compared with {comparison.one}: {kind}")


def exit_code(comparison: Comparison) -> ExitCode:
    """1 if a row is significantly slower by more than the band.

    Among many rows without a true difference, some are slower by chance, but hardly any by the whole band.
    """
    slower = any(row.difference.lower > comparison.band and not row.too_few_openings for row in comparison.rows)
    return ExitCode.ANSWER_IS_NO if slower else ExitCode.DONE


def compared(rows: Sequence[Compared], title: str) -> tuple[Table[Compared], str]:
    """A table, and the number of rows per verdict."""
    counts = ", ".join(f"{count} {name}" for name, count in counts_of(rows).items() if count)
    return Table(title, COLUMNS, rows), counts
