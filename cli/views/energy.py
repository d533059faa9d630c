"""View of the energy of calls."""

from typing import Final

from adaptare.core.table import Column, Section, Table
from adaptare.core.units import between, energy, percent
from adaptare.profiler.analysis import Interval
from adaptare.workflows.overhead.energy_rows import Energy, EnergyRow

COLUMNS: Final[tuple[Column[EnergyRow], ...]] = (
    Column("phase", lambda row: f"{row.phase} {row.length}"),
    Column("placement", lambda row: f"{row.placement} r{row.rank}" if row.mode else row.placement, folds=True),
    Column("mode", lambda row: row.mode),
    Column("energy", lambda row: energy(row.joules.middle)),
    Column("95 %", lambda row: between(row.joules.lower, row.joules.upper, energy), 1),
    Column("W", lambda row: f"{row.watts:.3g}", 2),
    Column("over the base", lambda row: _share(row.over_base)),
)


def section(result: Energy) -> Section:
    """A table, or the reason why it is missing."""
    if result.reason:
        return f"energy: {result.reason}"
    return Table("energy of a call, with all that the device draws meanwhile", COLUMNS, result.rows)


def _share(over_base: Interval | None) -> str:
    return f"{percent(over_base.middle)} {between(over_base.lower, over_base.upper, percent)}" if over_base else ""
