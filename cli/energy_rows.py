"""What calls use, beside what they take."""

from collections.abc import Sequence
from dataclasses import dataclass

from adaptare.console import Console, between, percent
from adaptare.devices import Device
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
        watts: Of the device while it ran, mean.
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


def energy_rows(
    found: Sequence[tuple[Case, Measurement]], *, device: Device, programs: Programs, console: Console
) -> list[EnergyRow] | None:
    """Every measured workload and its base; `None` where nothing counts energy."""
    cases = {each.workload: case for case, each in found}
    workloads = list(dict.fromkeys(one for each in cases for one in (each.base, each)))
    console.note("counting energy: so many seconds of calls without a pause, eight times for each row")
    uses = measure_energy(workloads, device=device, programs=programs)
    if uses is None:
        return None
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
    return rows


def show_energy(rows: Sequence[EnergyRow] | None, console: Console, *, device: str) -> None:
    """A table, or that there is none."""
    if rows is None:
        console.say(f"energy: not available, {device} has no counter that can be read; it is not estimated")
        return
    console.table(
        "energy of a call, with all that the device draws meanwhile",
        ["phase", "placement", "mode", "mJ", "95 %", "W", "over the base"],
        [
            [
                f"{row.phase} {row.length}",
                f"{row.placement} r{row.rank}" if row.mode else row.placement,
                row.mode,
                f"{1e3 * row.joules:.3g}",
                between(f"{1e3 * row.lower_j:.3g}", f"{1e3 * row.upper_j:.3g}"),
                f"{row.watts:.3g}",
                ""
                if row.over_base is None or row.over_base_lower is None or row.over_base_upper is None
                else f"{percent(row.over_base)} {between(percent(row.over_base_lower), percent(row.over_base_upper))}",
            ]
            for row in rows
        ],
    )
