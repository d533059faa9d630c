"""Energy of calls, reported together with their latency."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from adaptare.core import AdaptareError
from adaptare.core.table import Column, Section, Table
from adaptare.core.units import between, energy, percent
from adaptare.devices import Device
from adaptare.profiler import Measurement, Programs
from adaptare.profiler.measuring.energy import EnergyUse, measure_energy
from adaptare.workflows.grid import Case


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


def count_energy(
    measured: Sequence[tuple[Case, Measurement]], *, device: Device, programs: Programs, note: Callable[[str], None]
) -> Energy:
    """Energy of every measured workload and its base; a failure does not affect earlier measurements."""
    cases = {row.workload: case for case, row in measured}
    workloads = list(dict.fromkeys(one for workload in cases for one in (workload.base, workload)))
    note("counting energy: a second of calls without a pause, eight times for each row and its base")
    try:
        uses = measure_energy(workloads, device=device, programs=programs)
    except AdaptareError as error:
        return Energy(reason=str(error), failed=True)
    if uses is None:
        return not_available(device)
    return Energy(tuple(_row(use, cases.get(use.workload)) for use in uses))


def _row(use: EnergyUse, case: Case | None) -> EnergyRow:
    workload, joules, over = use.workload, use.joules, use.over_base
    placement, rank, mode = (case.placement, case.rank, workload.mode) if case else ("base", 0, "")
    ends = (joules.middle, joules.lower, joules.upper)
    over_base = (over.middle, over.lower, over.upper) if over else ()
    return EnergyRow(workload.phase, workload.length, placement, rank, mode, *ends, use.watts, *over_base)
