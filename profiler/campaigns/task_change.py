"""Memory and time to have an adapter ready, and to change to that of another task."""

import statistics
from dataclasses import dataclass, replace

from adaptare.devices import Device, ForgettingWorker, Program, Worker
from adaptare.profiler import Programs, Workload

# How often a task is changed; what counts is the median.
SWAPS = 3


@dataclass(frozen=True)
class Loading:
    """Memory and time to have one way of applying an adapter ready.

    Args:
        resident_bytes: Memory of the program with one adapter, in a worker of its own.
        peak_bytes: The most that this worker had resident until then, its libraries included; 0 where unknown.
        swap_s: Seconds until the adapter of another task answers, in a process that has imported all it needs: its
            inputs are made and bound, or its program is loaded from files in the page cache, and called for the first
            time.
        cold_swap_s: The same, with the files read from storage; `None` where nothing is loaded, or the device cannot
            drop files from its page cache.
    """

    resident_bytes: int
    peak_bytes: int
    swap_s: float
    cold_swap_s: float | None = None


def load_and_change_task(workload: Workload, *, programs: Programs, device: Device) -> Loading:
    """Loads the program of a workload in a worker of its own, and then changes tasks in another.

    Where the adapter is an input, changing tasks is feeding another: its weights are drawn, which takes about as long
    as reading them from a disk. Otherwise it is loading a program anew beside the base. Torch then makes new modules,
    or merges into copies of the base's linears: it reads no model. What a call is fed with otherwise, its cache above
    all, does not count then.

    Raises:
        ProgramError: It cannot be loaded.
    """
    program = programs.program(workload)
    # A model with its adapter in the weights has the form of the base, and needs none beside it.
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
    """Seconds until a program answers, without making what a call is fed with."""
    loaded = worker.load(program)
    worker.unload(loaded.program_id)
    return loaded.load_s - sum(loaded.bind_s.values())


def fed_bytes(workload: Workload, programs: Programs) -> int:
    """Of the adapter where it is among the inputs of its program, else 0."""
    return programs.need(workload).feed_bytes - programs.need(workload.base).feed_bytes
