"""What it takes to have an adapter ready, and to change to that of another task."""

import statistics
from dataclasses import dataclass, replace

from adaptare.devices import Device
from adaptare.profiler import Programs, Workload

# How often a task is changed; what counts is the median.
SWAPS = 3


@dataclass(frozen=True)
class Loading:
    """What it takes to have one way of applying an adapter ready.

    Args:
        resident_bytes: Memory of the program with one adapter, in a worker of its own.
        peak_bytes: The most that this worker had resident until then, its libraries included; 0 where unknown.
        swap_s: Seconds until the adapter of another task answers: its inputs are made and bound, or its program is
            loaded, and called for the first time.
    """

    resident_bytes: int
    peak_bytes: int
    swap_s: float


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
    with device.open() as worker:
        if fed_bytes(workload, programs):
            feeds = [replace(feed, name=f"{feed.name}-{task}") for task in range(1 + SWAPS) for feed in program.feeds]
            loaded = worker.load(replace(program, feeds=tuple(feeds)))
            seconds = [loaded.bind_s[feed.name] + loaded.first_call_s[feed.name] for feed in feeds[1:]]
        else:
            worker.load(programs.program(workload.base))
            seconds = []
            for _ in range(SWAPS):
                loaded = worker.load(program)
                seconds.append(loaded.load_s - sum(loaded.bind_s.values()))
                worker.unload(loaded.program_id)
    return Loading(alone.resident_bytes, alone.peak_bytes, statistics.median(seconds))


def fed_bytes(workload: Workload, programs: Programs) -> int:
    """Of the adapter where it is among the inputs of its program, else 0."""
    return programs.need(workload).feed_bytes - programs.need(workload.base).feed_bytes
