"""What a call uses, on devices that count it. Nowhere else is it known, and it is never estimated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import Device, DeviceError, InputError, MeteredWorker
from adaptare.profiler.intervals import Interval, ratio_interval
from adaptare.profiler.programs import Programs
from adaptare.profiler.workload import Workload


@dataclass(frozen=True)
class EnergyUse:
    """Of one workload, with 95 % intervals over loadings of its program.

    Args:
        workload: What was called.
        joules: Of one call, with all that the device draws meanwhile.
        watts: Of the device while it ran, mean.
        over_base: Its joules over those of its base, minus one; `None` for a base.
    """

    workload: Workload
    joules: Interval
    watts: float
    over_base: Interval | None


def measure_energy(
    workloads: Sequence[Workload],
    *,
    device: Device,
    programs: Programs,
    seconds: float = 1.0,
    rounds: int = 8,
    seed: int = 0,
) -> list[EnergyUse] | None:
    """Calls each workload again and again and reads the device's counter before and after.

    Counters count everything, so calls follow each other without a pause, for a thousand times what a counter takes to
    move. Every round loads each program anew, in random order; rounds in which a counter started again do not count.

    Args:
        workloads: Their bases among them.
        device: Runs them.
        programs: Of the device's runtime.
        seconds: Of calling, in every round and of every workload.
        rounds: Three or more.
        seed: Of the order.

    Returns:
        What each uses, in their order; `None` where nothing counts it.

    Raises:
        InputError: There are too few rounds, or too little time for a call.
        ProgramError: A workload fails.
        DeviceError: No worker can be had, or a counter stands still.
    """
    if rounds < 3 or seconds <= 0:
        raise InputError(f"energy needs 3 rounds and some time in each, not {rounds} of {seconds:g} s")
    rng = np.random.default_rng(seed)
    used: dict[Workload, list[float]] = {workload: [] for workload in workloads}
    took: dict[Workload, float] = dict.fromkeys(workloads, 0.0)
    with device.open() as worker:
        if not isinstance(worker, MeteredWorker) or worker.energy_j() is None:
            return None
        for _ in range(rounds):
            for index in rng.permutation(len(workloads)):
                workload = workloads[index]
                joules, call_s = _one_call(workload, worker, programs, seconds)
                used[workload].append(joules)
                took[workload] += call_s / rounds
    return [_use(workload, used, took[workload]) for workload in workloads]


def _one_call(workload: Workload, worker: MeteredWorker, programs: Programs, seconds: float) -> tuple[float, float]:
    """Joules and seconds of a call, in a loading of its own; nan joules if the counter started again."""
    loaded = worker.load(programs.program(workload))
    warm_s = worker.run(loaded.program_id, workload.hash, 2)[-1]
    calls = max(1, math.ceil(seconds / warm_s))
    before = worker.energy_j()
    took = worker.run(loaded.program_id, workload.hash, calls)
    after = worker.energy_j()
    worker.unload(loaded.program_id)
    joules = (after or 0.0) - (before or 0.0)
    return (joules / calls if joules > 0 else math.nan), sum(took) / calls


def _use(workload: Workload, used: dict[Workload, list[float]], call_s: float) -> EnergyUse:
    own, base = (np.array(used.get(each, ())) for each in (workload, workload.base))
    joules = _interval(own)
    compared = _interval(own / base) if workload != workload.base and len(base) else None
    over = Interval(compared.lower - 1, compared.middle - 1, compared.upper - 1) if compared else None
    return EnergyUse(workload, joules, joules.middle / call_s, over)


def _interval(values: NDArray[np.float64]) -> Interval:
    counted = np.flatnonzero(~np.isnan(values))
    if len(counted) < 3:
        raise DeviceError("the energy counter stood still or started again in too many rounds; try once more")
    return ratio_interval(values[counted], counted)
