"""Memory and time to load an adapter, and to change to that of another task."""

import statistics
from dataclasses import dataclass, replace

from adaptare.devices import Device, Program, Worker
from adaptare.devices.contracts import ForgettingWorker
from adaptare.profiler import Programs, Workload

# Number of task changes, of which the median counts.
SWAPS = 3


@dataclass(frozen=True)
class Loading:
    """Memory and time to load an adapter in one application mode.

    Args:
        resident_bytes: Memory of the program with one adapter, in a separate worker.
        peak_bytes: Peak resident memory of this worker until then, including libraries; 0 if unknown.
        swap_s: Seconds until the first result with the adapter of another task, in a process with all imports done:
            creating and binding its inputs, or loading its program from files in the page cache, and the first call.
        cold_swap_s: The same with files read from storage; `None` if nothing is loaded, or the device cannot drop files
            from its page cache.
    """

    resident_bytes: int
    peak_bytes: int
    swap_s: float
    cold_swap_s: float | None = None


def load_and_change_task(workload: Workload, *, programs: Programs, device: Device) -> Loading:
    """Loads the program of a workload in one worker, and then changes tasks in another.

    If the adapter is an input, a task change is a new input: its weights are drawn, which takes about as long as
    reading them from disk. Otherwise a program is loaded in addition to the base. Torch then creates new modules, or
    merges into copies of the base's linears, without reading a model. Creating the other inputs, mainly the KV cache,
    is excluded.

    Raises:
        ProgramError: The program cannot be loaded.
    """
    program = programs.program(workload)
    # A model with its adapter in the weights has the form of the base, and needs no other base.
    whole = programs.program(workload.base) if workload.in_weights else program
    with device.open() as worker:
        alone = worker.load(whole)
    warm, cold = list[float](), list[float]()
    with device.open() as worker:
        if fed_bytes(workload, programs):
            feeds = [replace(feed, name=f"{feed.name}-{task}") for task in range(1 + SWAPS) for feed in program.feeds]
            loaded = worker.load(replace(program, feeds=tuple(feeds)))
            warm = [loaded.bind_s[feed.name] + loaded.first_call_s[feed.name] for feed in feeds[1:]]
        else:
            worker.load(programs.program(workload.base))
            for _ in range(SWAPS):
                if isinstance(worker, ForgettingWorker) and worker.forget(program):
                    cold.append(_seconds_to_load(worker, program))
                warm.append(_seconds_to_load(worker, program))
    cold_s = statistics.median(cold) if cold else None
    return Loading(alone.resident_bytes, alone.peak_bytes, statistics.median(warm), cold_s)


def _seconds_to_load(worker: Worker, program: Program) -> float:
    """Seconds to load a program, without the creation of its inputs."""
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return loaded.load_s - sum(loaded.bind_s.values())


def fed_bytes(workload: Workload, programs: Programs) -> int:
    """Bytes of the adapter if it is an input of its program, else 0."""
    return programs.need(workload).feed_bytes - programs.need(workload.base).feed_bytes
