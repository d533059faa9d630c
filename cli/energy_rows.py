"""What calls use, beside what they take."""

from collections.abc import Sequence
from dataclasses import dataclass

from adaptare.console import Console, between, energy, percent
from adaptare.devices import AdaptareError, Device
from adaptare.overhead_grid import Case
from adaptare.profiler import Measurement, Programs, measure_energy


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one row of `adaptare overhead`, or of a base.

    Args:
        phase: As in a row.
        length: As in a row.
        placement: As in a row; `base` without adapter.
        rank: As in a row.
        mode: As in a row.
        joules: Of one call, with all that the device draws meanwhile.
        lower_j: Lower end of a 95 % interval.
        upper_j: Upper end.
        watts: Of the device while it ran.
        over_base: Over the joules of the base, minus one.
        over_base_lower: Lower end of a 95 % interval.
        over_base_upper: Upper end.
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


@dataclass(frozen=True)
class Energy:
    """What `--energy` found.

    Args:
        rows: Of every measured workload and its base.
        reason: Why there are none.
        failed: Whether there should be some.
    """

    rows: tuple[EnergyRow, ...] = ()
    reason: str = ""
    failed: bool = False


def not_available(device: Device) -> Energy:
    """Where nothing counts energy."""
    name = device.info().device
    return Energy(reason=f"not available: {name} has no counter that can be read, and energy is not estimated")


def count_energy(
    found: Sequence[tuple[Case, Measurement]], *, device: Device, programs: Programs, console: Console
) -> Energy:
    """Of every measured workload and its base; a failure costs nothing of what was measured before."""
    cases = {each.workload: case for case, each in found}
    workloads = list(dict.fromkeys(one for each in cases for one in (each.base, each)))
    console.note("counting energy: a second of calls without a pause, eight times for each row and its base")
    try:
        uses = measure_energy(workloads, device=device, programs=programs)
    except AdaptareError as error:
        return Energy(reason=str(error), failed=True)
    if uses is None:
        return not_available(device)
    rows = []
    for use in uses:
        workload, case, over = use.workload, cases.get(use.workload), use.over_base
        rows.append(
            EnergyRow(
                workload.phase,
                workload.length,
                case.placement if case else "base",
                case.rank if case else 0,
                workload.mode if case else "",
                use.joules.middle,
                use.joules.lower,
                use.joules.upper,
                use.watts,
                *((over.middle, over.lower, over.upper) if over else ()),
            )
        )
    return Energy(tuple(rows))


def show_energy(found: Energy, console: Console) -> None:
    """A table, or why there is none."""
    if found.reason:
        console.say(f"energy: {found.reason}")
        return
    console.table(
        "energy of a call, with all that the device draws meanwhile",
        ["phase", "placement", "mode", "energy", "95 %", "W", "over the base"],
        [
            [
                f"{row.phase} {row.length}",
                f"{row.placement} r{row.rank}" if row.mode else row.placement,
                row.mode,
                energy(row.joules),
                between(energy(row.lower_j), energy(row.upper_j)),
                f"{row.watts:.3g}",
                ""
                if row.over_base is None or row.over_base_lower is None or row.over_base_upper is None
                else f"{percent(row.over_base)} {between(percent(row.over_base_lower), percent(row.over_base_upper))}",
            ]
            for row in found.rows
        ],
    )
