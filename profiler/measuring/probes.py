"""Quantities measured here: latency, energy, time by operator, memory and the time of a task change."""

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from adaptare.core import InputError, ProgramError
from adaptare.devices import AttributingWorker, Device, ForgettingWorker, MeteredWorker, Program, Worker
from adaptare.profiler.measuring.attribution import OPERATOR_CALLS, OPERATORS, PLAIN
from adaptare.profiler.measuring.probe import Subject
from adaptare.profiler.programs.builders import Programs, TaskPrograms
from adaptare.profiler.store.measurement import LATENCY, P90
from adaptare.profiler.workloads.workload import Workload

TOUCH = "touch"
# A counter that was reset during a visit is read again, at most this often.
READINGS = 3
# Calls before those without the profiler.
WARM_CALLS = 3


@dataclass(frozen=True)
class Latency:
    """Seconds of a call, and their 90th percentile.

    The session visits all workloads in rounds, until its stopping rule ends them.
    """

    units: ClassVar[Mapping[str, str]] = {LATENCY: "s", P90: "s"}
    openings: ClassVar[int] = 1
    alone: ClassVar[bool] = False

    def visit(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        seconds = subject.run(worker, subject.touches + subject.calls)
        return {TOUCH: seconds[:1], LATENCY: seconds[subject.touches :]}


@dataclass(frozen=True)
class Energy:
    """Joules of a call, and the power meanwhile, of everything that the device's energy counter includes.

    Counters count everything, so calls are made without a pause, for a thousand times the counter's update interval:
    `seconds` in each visit, in three or more openings. Where there is no counter, energy is unknown and never
    estimated.
    """

    seconds: float = 1.0
    openings: int = 8

    units: ClassVar[Mapping[str, str]] = {"energy": "J", "power": "W"}
    alone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.openings < 3 or self.seconds <= 0:
            raise InputError(
                f"energy needs at least 3 openings and more than 0 s in each, not {self.openings} of {self.seconds:g} s"
            )

    def visit(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        if not isinstance(worker, MeteredWorker) or worker.energy_j() is None:
            raise InputError("the device has no energy counter that can be read, and energy is not estimated")
        calls = max(1, math.ceil(self.seconds / subject.call_s))
        for _ in range(READINGS):
            before = worker.energy_j()
            took = subject.run(worker, calls)
            after = worker.energy_j()
            if before is None or after is None or before == after:
                raise ProgramError("the energy counter does not advance")
            if after > before:
                return {"energy": [(after - before) / calls], "power": [(after - before) / sum(took)]}
        raise ProgramError(f"the energy counter started again {READINGS} times in a row; calls take too long for it")


def counts_energy(device: Device) -> bool:
    """True if the device has a readable energy counter; one that never advances is only detected by measuring."""
    with device.open() as worker:
        return isinstance(worker, MeteredWorker) and worker.energy_j() is not None


@dataclass(frozen=True)
class Operators:
    """Seconds of a call by operator, from the runtime's own profiler, beside calls without the profiler.

    `operators` are the profiled calls, `operators/NAME` the self time of all operators of one type in each of them,
    `operator_calls/NAME` their number, and `plain` as many calls without the profiler.

    Args:
        calls: Profiled calls of each visit.
        openings: Visits of each workload.
        visited: Called after each visit, to report progress.
    """

    calls: int = 20
    openings: int = 3
    visited: Callable[[], object] = field(default=lambda: None, compare=False)

    units: ClassVar[Mapping[str, str]] = {OPERATORS: "s", OPERATOR_CALLS: "1", PLAIN: "s"}
    alone: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.calls < 1:
            raise InputError(f"calls must be at least 1, not {self.calls}")

    def visit(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        if "attribution" not in worker.info.capabilities or not isinstance(worker, AttributingWorker):
            raise InputError("the device does not attribute time to operators; torch-cpu, ort-cpu and openvino-cpu do")
        plain = subject.run(worker, WARM_CALLS + self.calls)[WARM_CALLS:]
        attributed = worker.attribute(subject.program, subject.feed, self.calls)
        by_name = [{cost.name: cost for cost in call.operators} for call in attributed]
        values: dict[str, Sequence[float]] = {PLAIN: plain, OPERATORS: [call.seconds for call in attributed]}
        for name in dict.fromkeys(name for call in by_name for name in call):
            values[f"{OPERATORS}/{name}"] = [call[name].seconds if name in call else 0.0 for call in by_name]
            values[f"{OPERATOR_CALLS}/{name}"] = [float(call[name].calls) if name in call else 0.0 for call in by_name]
        self.visited()
        return values


@dataclass(frozen=True)
class Memory:
    """Resident memory of a worker for a program with one adapter, and the peak until it is loaded, bytes.

    The peak includes libraries, and is not measured where the device does not report it.

    Args:
        needed: A device that reports no memory of its programs, as browsers and macOS do not, is an error. Otherwise
            nothing is measured there.
    """

    openings: int = 4
    needed: bool = True

    units: ClassVar[Mapping[str, str]] = {"memory": "B", "peak_memory": "B"}
    alone: ClassVar[bool] = True

    def visit(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        workload, program = subject.workload, subject.program
        # A model with its adapter in the weights has the form of one without adapter, of the same widths and depth.
        loaded = worker.load(subject.programs.program(workload.bare) if workload.in_weights else program)
        if not loaded.resident_bytes and not loaded.peak_bytes:
            if self.needed:
                raise InputError("the device does not report the memory of a program, and it is not estimated")
            return {}
        peak = {"peak_memory": [float(loaded.peak_bytes)]} if loaded.peak_bytes else {}
        return {"memory": [float(loaded.resident_bytes)], **peak}


@dataclass(frozen=True)
class Swap:
    """Seconds until the first result with the adapter of another task, in a process with all imports done.

    If the adapter is an input, a task change is a new input, read from an adapter file in the format of `export` where
    the runtime reads such files, and otherwise drawn. If not, a program is loaded in addition to the base. Files are in
    the page cache, or come from storage (`cold_swap`) where the device can drop files from its page cache. Torch
    creates new modules, or merges into copies of the base's linears, without reading a file. Creating the other inputs
    of a loaded program, mainly the KV cache, is excluded. Each opening has some `changes` of the task.
    """

    changes: int = 1
    openings: int = 4

    units: ClassVar[Mapping[str, str]] = {"swap": "s", "cold_swap": "s"}
    alone: ClassVar[bool] = True

    def visit(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        workload, program, programs = subject.workload, subject.program, subject.programs
        if fed_bytes(workload, programs):
            return self._of_inputs(worker, subject)
        worker.load(programs.program(workload.bare))
        warm, cold = list[float](), list[float]()
        for _ in range(self.changes):
            if isinstance(worker, ForgettingWorker) and worker.forget(program):
                cold.append(_seconds_to_load(worker, program))
            warm.append(_seconds_to_load(worker, program))
        return {"swap": warm, **({"cold_swap": cold} if cold else {})}

    def _of_inputs(self, worker: Worker, subject: Subject) -> Mapping[str, Sequence[float]]:
        """The first task is that before the first change."""
        tasks, program, programs = 1 + self.changes, subject.program, subject.programs
        if not (isinstance(programs, TaskPrograms) and "adapter_file" in worker.info.capabilities):
            feeds = [replace(feed, name=f"{feed.name}-{task}") for task in range(tasks) for feed in program.feeds]
            return {"swap": _seconds_to_bind(worker, replace(program, feeds=tuple(feeds)))[1:]}
        with tempfile.TemporaryDirectory() as folder:
            program = programs.of_tasks(subject.workload, tasks, Path(folder))
            warm = _seconds_to_bind(worker, program)[1:]
            if isinstance(worker, ForgettingWorker) and worker.forget(program):
                return {"swap": warm, "cold_swap": _seconds_to_bind(worker, program)[1:]}
        return {"swap": warm}


def _seconds_to_bind(worker: Worker, program: Program) -> list[float]:
    """Seconds of each feed of a program, until the end of its first call."""
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return [loaded.bind_s[feed.name] + loaded.first_call_s[feed.name] for feed in program.feeds]


def _seconds_to_load(worker: Worker, program: Program) -> float:
    """Seconds to load a program, without the creation of its inputs."""
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return loaded.load_s - sum(loaded.bind_s.values())


def fed_bytes(workload: Workload, programs: Programs) -> int:
    """Bytes of the adapter if it is an input of its program, else 0."""
    return programs.need(workload).feed_bytes - programs.need(workload.bare).feed_bytes
