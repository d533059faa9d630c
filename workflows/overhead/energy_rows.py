"""Energy of calls, reported together with their latency."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from adaptare.core.table import Column, Section, Table
from adaptare.core.units import between, energy, percent
from adaptare.devices import Device
from adaptare.profiler import Measurement, Workload
from adaptare.workflows.grid import Case

ENERGY: Final = "energy"


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one row of `adaptare overhead`, or of a base.

    Args:
        placement: As in an overhead row; `base` without adapter.
        joules: Energy of one call, including everything the device draws meanwhile; with a 95 % interval.
        watts: Power of the device during the calls.
        over_base: Ratio to the joules of the base, minus one; with a 95 % interval.
    """

    phase: str
    length: int
    placement: str
    rank: int
    mode: str
    joules: float
    lower_j: float
    upper_j: float
    watts: float
    over_base: float | None = None
    over_base_lower: float | None = None
    over_base_upper: float | None = None

    @property
    def over_base_interval(self) -> str:
        """Formatted overhead relative to the base, with its interval; empty for a base."""
        if self.over_base is None or self.over_base_lower is None or self.over_base_upper is None:
            return ""
        return f"{percent(self.over_base)} {between(self.over_base_lower, self.over_base_upper, percent)}"


COLUMNS: Final[tuple[Column[EnergyRow], ...]] = (
    Column("phase", lambda row: f"{row.phase} {row.length}"),
    Column("placement", lambda row: f"{row.placement} r{row.rank}" if row.mode else row.placement, folds=True),
    Column("mode", lambda row: row.mode),
    Column("energy", lambda row: energy(row.joules)),
    Column("95 %", lambda row: between(row.lower_j, row.upper_j, energy), 1),
    Column("W", lambda row: f"{row.watts:.3g}", 2),
    Column("over the base", lambda row: row.over_base_interval),
)


@dataclass(frozen=True)
class Energy:
    """Energy of all rows, or the reason why it is missing.

    Args:
        rows: Rows of every measured workload and its base.
        reason: Reason why there are no rows.
        failed: True if the device has a counter and counting failed.
    """

    rows: tuple[EnergyRow, ...] = ()
    reason: str = ""
    failed: bool = False

    @property
    def section(self) -> Section:
        """A table, or the reason why it is missing."""
        if self.reason:
            return f"energy: {self.reason}"
        return Table("energy of a call, with all that the device draws meanwhile", COLUMNS, self.rows)


def not_available(device: Device) -> Energy:
    """Result for a device without energy counter."""
    name = device.info().device
    return Energy(reason=f"not available: {name} has no counter that can be read, and energy is not estimated")


def energy_of(measured: Sequence[tuple[Case, Measurement]]) -> Energy:
    """Energy of every measured workload and its base; the reason of a failure if one could not be counted."""
    failures = [row.quantities[ENERGY].failure for _, row in measured]
    if failure := next(filter(None, failures), ""):
        return Energy(reason=failure, failed=True)
    rows: list[EnergyRow] = []
    bases = set[Workload]()
    for case, row in measured:
        if row.reference not in bases:
            bases.add(row.reference)
            rows.append(_row(row, ("base", 0, ""), reference=True))
        rows.append(_row(row, (case.placement, case.rank, row.workload.mode)))
    return Energy(tuple(rows))


def _row(measurement: Measurement, what: tuple[str, int, str], *, reference: bool = False) -> EnergyRow:
    workload, joules, watts = measurement.workload, measurement.quantities[ENERGY], measurement.quantities["power"]
    own, over = joules.value, (joules.ratio.middle - 1, joules.ratio.lower - 1, joules.ratio.upper - 1)
    if reference:
        workload, own, watts = measurement.reference, joules.of_reference.value, watts.of_reference
    ends = (own.middle, own.lower, own.upper, watts.value.middle)
    return EnergyRow(workload.phase, workload.length, *what, *ends, *(() if reference else over))
