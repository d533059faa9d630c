"""Energy of calls."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from adaptare.profiler import Measurement
from adaptare.profiler.analysis import Interval
from adaptare.workflows.grid import Case

ENERGY: Final = "energy"


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one row of an overhead, or of a base.

    Args:
        placement: As in an overhead row; `base` without adapter.
        joules: Energy of one call, including everything the device draws meanwhile.
        watts: Power of the device during the calls.
        over_base: Ratio to the joules of the base, minus one; `None` for a base.
    """

    phase: str
    length: int
    placement: str
    rank: int
    mode: str
    joules: Interval
    watts: float
    over_base: Interval | None = None


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


def energy_of(measured: Sequence[tuple[Case, Measurement]]) -> Energy:
    """Energy of every measured workload and its base; the reason of a failure if one could not be counted."""
    failures = [row.quantities[ENERGY].failure for _, row in measured]
    if failure := next(filter(None, failures), ""):
        return Energy(reason=failure, failed=True)
    rows, bases = list[EnergyRow](), set[str]()
    for case, row in measured:
        workload, joules, watts = row.workload, row.quantities[ENERGY], row.quantities["power"]
        base = EnergyRow(
            phase=workload.phase,
            length=workload.length,
            placement="base",
            rank=0,
            mode="",
            joules=joules.of_reference.value,
            watts=watts.of_reference.value.middle,
        )
        if row.reference.hash not in bases:
            bases.add(row.reference.hash)
            rows.append(base)
        adapted = replace(base, placement=case.placement, rank=case.rank, mode=workload.mode)
        over_base = joules.ratio.over_one
        rows.append(replace(adapted, joules=joules.value, watts=watts.value.middle, over_base=over_base))
    return Energy(tuple(rows))
