"""Time of a call by operator, from the runtime's own profiler."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from adaptare.core import InputError
from adaptare.devices import Device, Program, Worker
from adaptare.devices.contracts import AttributedCall, AttributingWorker
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.programs.equality import changes_outputs, check_applied
from adaptare.profiler.workloads.workload import Workload

# Below this duration, the profiler's overhead per operator is significant.
SHORT_S = 50e-6
ROUNDS = 3
WARM_CALLS = 3


@dataclass(frozen=True)
class OperatorCost:
    """Cost of all operators of one type in one call of a workload.

    Args:
        name: Operator type, as named by the runtime.
        calls: Executions per call of the workload.
        seconds: Total self time, excluding nested operators.
    """

    name: str
    calls: float
    seconds: float

    @property
    def short(self) -> bool:
        """True if a large part of the time may be profiler overhead."""
        return self.seconds < SHORT_S * self.calls


@dataclass(frozen=True)
class Attribution:
    """Calls of one workload, with and without the profiler.

    Every value is a mean over the faster half of the calls: disturbed calls are excluded, and the operators add up to
    no more than the total.

    Args:
        workload: The measured workload.
        plain_samples_s: Calls without the profiler, seconds.
        attributed: Calls with the profiler.
    """

    workload: Workload
    plain_samples_s: tuple[float, ...] = field(repr=False)
    attributed: tuple[AttributedCall, ...] = field(repr=False)

    @cached_property
    def plain_s(self) -> float:
        """Latency of a call without the profiler, seconds."""
        return _undisturbed([(seconds,) for seconds in self.plain_samples_s])[0]

    @cached_property
    def profiled_s(self) -> float:
        """Latency of a call with the profiler, seconds; the excess over `plain_s` is profiler overhead."""
        return _undisturbed([(call.seconds,) for call in self.attributed])[0]

    @property
    def slowdown(self) -> float:
        """Ratio of the latency with the profiler to that without."""
        return self.profiled_s / self.plain_s

    @cached_property
    def operators(self) -> tuple[OperatorCost, ...]:
        """Cost by operator type, most expensive first."""
        by_name = [{cost.name: (cost.seconds, cost.calls) for cost in call.operators} for call in self.attributed]
        costs = []
        for name in dict.fromkeys(name for call in by_name for name in call):
            seconds, calls = _undisturbed([call.get(name, (0.0, 0)) for call in by_name])
            costs.append(OperatorCost(name, calls, seconds))
        return tuple(sorted(costs, key=lambda cost: -cost.seconds))

    @property
    def outside_s(self) -> float:
        """Time of the profiled call outside its operators, including disturbances, seconds."""
        return self.profiled_s - sum(cost.seconds for cost in self.operators)


def attribute(workloads: Sequence[Workload], *, device: Device, programs: Programs, calls: int) -> list[Attribution]:
    """Calls each workload alternately with and without the runtime's profiler, in one worker.

    Args:
        workloads: A base must precede its adapted workloads for the check that the adapter changes the output.
        device: Device that runs them.
        programs: Program builder of the device's runtime.
        calls: Calls with the profiler, and as many without, per workload in each of three rounds.

    Raises:
        InputError: The device does not report time per operator.
        ProgramError: A workload fails, or its adapter is not applied.
    """
    if calls < 1:
        raise InputError(f"calls must be at least 1, not {calls}")
    plain: dict[Workload, list[float]] = {workload: [] for workload in workloads}
    attributed: dict[Workload, list[AttributedCall]] = {workload: [] for workload in workloads}
    outputs: dict[Workload, Sequence[float]] = {}
    with device.open() as worker:
        if not isinstance(worker, AttributingWorker):
            name = device.info().device
            raise InputError(f"device {name!r} does not say which operators take the time; torch-cpu and ort-cpu do")
        made = {workload: programs.program(workload) for workload in workloads}
        for number in range(ROUNDS):
            # Device speed may drift between calls, so the order alternates.
            for workload in workloads if number % 2 == 0 else workloads[::-1]:
                outputs[workload], seconds = _plain_calls(made[workload], workload.hash, worker, calls)
                if changes_outputs(workload) and workload.base in outputs:
                    check_applied(workload, outputs[workload], outputs[workload.base])
                plain[workload] += seconds
                attributed[workload] += worker.attribute(made[workload], workload.hash, calls)
    return [Attribution(workload, tuple(plain[workload]), tuple(attributed[workload])) for workload in workloads]


def _plain_calls(program: Program, feed: str, worker: Worker, calls: int) -> tuple[Sequence[float], Sequence[float]]:
    """Loads, calls and unloads. Returns the outputs, and the seconds of each call."""
    loaded = worker.load(program)
    seconds = worker.run(loaded.program_id, feed, WARM_CALLS + calls)[WARM_CALLS:]
    worker.unload(loaded.program_id)
    return loaded.outputs.get(feed, ()), seconds


def _undisturbed(figures: Sequence[tuple[float, ...]]) -> list[float]:
    """Means over the half of the calls with the lowest first value. One row of values per call."""
    rows = np.array(figures, dtype=np.float64)
    kept = np.argsort(rows[:, 0], kind="stable")[: (len(rows) + 1) // 2]
    means: list[float] = rows[kept].mean(axis=0).tolist()
    return means
