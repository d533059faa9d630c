"""Where the time of a call goes, operator by operator, as the runtime's own profiler sees it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from adaptare.devices import AttributedCall, AttributingWorker, Device, InputError, Program, Worker
from adaptare.profiler.programs.builders import Programs
from adaptare.profiler.programs.equality import changes_outputs, check_applied
from adaptare.profiler.workloads.workload import Workload

# What the profiler does for each operator is no small part of less.
SHORT_S = 50e-6
ROUNDS = 3
WARM_CALLS = 3


@dataclass(frozen=True)
class OperatorCost:
    """What the operators of one kind take in one call of a workload.

    Args:
        name: As the runtime calls the kind.
        calls: How often it runs.
        seconds: Of all of them, without the operators that they call themselves.
    """

    name: str
    calls: float
    seconds: float

    @property
    def short(self) -> bool:
        """Whether much of its seconds may be the profiler's own."""
        return self.seconds < SHORT_S * self.calls


@dataclass(frozen=True)
class Attribution:
    """Calls of one workload, with the profiler and without.

    Every figure is a mean over that half of the calls where it is lowest: what was disturbed does not count, and the
    operators add up to no more than the whole.

    Args:
        workload: What was called.
        plain_samples_s: Calls without the profiler, seconds.
        attributed: Calls with it.
    """

    workload: Workload
    plain_samples_s: tuple[float, ...] = field(repr=False)
    attributed: tuple[AttributedCall, ...] = field(repr=False)

    @cached_property
    def plain_s(self) -> float:
        """Of a call without the profiler, seconds."""
        return _undisturbed([(seconds,) for seconds in self.plain_samples_s])[0]

    @cached_property
    def profiled_s(self) -> float:
        """Of a call with the profiler, seconds; what exceeds `plain_s` is its own work."""
        return _undisturbed([(call.seconds,) for call in self.attributed])[0]

    @property
    def slowdown(self) -> float:
        """How many times as long a call takes with the profiler."""
        return self.profiled_s / self.plain_s

    @cached_property
    def operators(self) -> tuple[OperatorCost, ...]:
        """By kind, the most expensive first."""
        found = [{each.name: (each.seconds, each.calls) for each in call.operators} for call in self.attributed]
        costs = []
        for name in dict.fromkeys(name for call in found for name in call):
            seconds, calls = _undisturbed([call.get(name, (0.0, 0)) for call in found])
            costs.append(OperatorCost(name, calls, seconds))
        return tuple(sorted(costs, key=lambda cost: -cost.seconds))

    @property
    def outside_s(self) -> float:
        """What the profiled call spends outside its operators, and in disturbances, seconds."""
        return self.profiled_s - sum(cost.seconds for cost in self.operators)


def attribute(workloads: Sequence[Workload], *, device: Device, programs: Programs, calls: int) -> list[Attribution]:
    """Calls each workload with the runtime's profiler and without, in one worker, by turns.

    Args:
        workloads: A base before what has an adapter, if it is to be checked that the adapter changes its output.
        device: Runs them.
        programs: Of the device's runtime.
        calls: With the profiler and without, of each workload, in each of three rounds.

    Raises:
        InputError: The device does not say which operators take the time.
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
            # The machine may change from one to the next, so that each goes first sometimes.
            for workload in workloads if number % 2 == 0 else workloads[::-1]:
                outputs[workload], seconds = _plain_calls(made[workload], workload.hash, worker, calls)
                if changes_outputs(workload) and workload.base in outputs:
                    check_applied(workload, outputs[workload], outputs[workload.base])
                plain[workload] += seconds
                attributed[workload] += worker.attribute(made[workload], workload.hash, calls)
    return [Attribution(each, tuple(plain[each]), tuple(attributed[each])) for each in workloads]


def _plain_calls(program: Program, feed: str, worker: Worker, calls: int) -> tuple[Sequence[float], Sequence[float]]:
    """Loads, calls and unloads. Returns what it gave, and the seconds of each call."""
    loaded = worker.load(program)
    seconds = worker.run(loaded.program_id, feed, WARM_CALLS + calls)[WARM_CALLS:]
    worker.unload(loaded.program_id)
    return loaded.outputs.get(feed, ()), seconds


def _undisturbed(figures: Sequence[tuple[float, ...]]) -> list[float]:
    """Means over that half of the calls whose first figure is lowest. One row of figures per call."""
    rows = np.array(figures, dtype=np.float64)
    kept = np.argsort(rows[:, 0], kind="stable")[: (len(rows) + 1) // 2]
    means: list[float] = rows[kept].mean(axis=0).tolist()
    return means
