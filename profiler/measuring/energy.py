"""Energy of a call, on devices with an energy counter; elsewhere it is unknown and never estimated."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.core import DeviceError, InputError
from adaptare.devices import Device
from adaptare.devices.contracts import MeteredWorker
from adaptare.profiler.analysis.intervals import Interval, ratio_interval
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.workloads.workload import Workload


@dataclass(frozen=True)
class EnergyUse:
    """Energy of one workload, with 95 % intervals over program loads.

    Args:
        workload: The measured workload.
        joules: Energy of one call, including everything the device draws meanwhile.
        watts: Power of the device during the calls, median over program loads.
        over_base: Ratio of its energy to that of its base, minus one; `None` for a base.
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
    """Reads the device's energy counter before and after repeated calls of each workload.

    Counters count everything, so calls are made without a pause, for a thousand times the counter's update interval.
    Each round reloads all programs, in random order; rounds in which a counter was reset are dropped.

    Args:
        workloads: Workloads to measure, including their bases.
        device: Device that runs them.
        programs: Program builder of the device's runtime.
        seconds: Duration of the calls, per round and workload.
        rounds: Three or more.
        seed: Seed of the visiting order.

    Returns:
        Energy per workload, in the given order; `None` if there is no energy counter, or it does not advance.

    Raises:
        InputError: Too few rounds, no time for a call, or a duplicate workload.
        ProgramError: A workload fails.
        DeviceError: No worker can be started, or counters were reset in nearly every round.
    """
    if rounds < 3 or seconds <= 0:
        raise InputError(f"energy needs 3 rounds and some time in each, not {rounds} of {seconds:g} s")
    if len(set(workloads)) < len(workloads):
        raise InputError("energy needs each workload once; one came twice")
    rng = np.random.default_rng(seed)
    joules, watts = ({workload: np.full(rounds, np.nan) for workload in workloads} for _ in range(2))
    with device.open() as worker:
        if not isinstance(worker, MeteredWorker):
            return None
        for number in range(rounds):
            for index in rng.permutation(len(workloads)):
                workload = workloads[index]
                used = _one_call(workload, worker, programs, seconds)
                if used is None:
                    return None
                joules[workload][number], watts[workload][number] = used
    return [_use(workload, joules, watts[workload]) for workload in workloads]


def counts_energy(device: Device) -> bool:
    """True if the device has a readable energy counter; one that never advances is only detected by measuring."""
    with device.open() as worker:
        return isinstance(worker, MeteredWorker) and worker.energy_j() is not None


def _one_call(
    workload: Workload, worker: MeteredWorker, programs: Programs, seconds: float
) -> tuple[float, float] | None:
    """Joules per call and watts, in a fresh load; nan if the counter was reset, `None` if it did not advance."""
    loaded = worker.load(programs.program(workload))
    warm_s = worker.run(loaded.program_id, workload.hash, 2)[-1]
    calls = max(1, math.ceil(seconds / warm_s))
    before = worker.energy_j()
    took = worker.run(loaded.program_id, workload.hash, calls)
    after = worker.energy_j()
    worker.unload(loaded.program_id)
    if before is None or after is None or before == after:
        return None
    joules = after - before if after > before else math.nan
    return joules / calls, joules / sum(took)


def _use(workload: Workload, joules: Mapping[Workload, NDArray[np.float64]], watts: NDArray[np.float64]) -> EnergyUse:
    own, base = joules[workload], joules.get(workload.base)
    compared = _interval(own / base) if workload != workload.base and base is not None else None
    over = Interval(compared.lower - 1, compared.middle - 1, compared.upper - 1) if compared else None
    return EnergyUse(workload, _interval(own), float(np.nanmedian(watts)), over)


def _interval(values: NDArray[np.float64]) -> Interval:
    counted = np.flatnonzero(~np.isnan(values))
    if len(counted) < 3:
        raise DeviceError("the energy counter started again in nearly every round; calls take too long for it")
    return ratio_interval(values[counted], counted)
