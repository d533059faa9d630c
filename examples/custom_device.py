"""A device of your own, in one file: an emulator of a phone that calls are timed on, with its overheads.

A device reports its identity and opens workers; a worker loads programs and returns the seconds of each call. Here the
seconds come from a formula, where yours asks a simulator, a board on a serial line, or a farm of phones.

    python examples/custom_device.py
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

import adaptare
from adaptare.core import ProgramError
from adaptare.devices import DeviceInfo, Loaded, Program, WorkerInfo

LAUNCH_S, BYTES_PER_S = 20e-6, 20e9


class Emulator:
    """Kernels that start slowly, and memory that moves 20 GB/s; 1 % of noise."""

    def info(self) -> DeviceInfo:
        """The identity; the runtime selects who builds the programs, here descriptions of their work."""
        return DeviceInfo("emulator", hardware="phone of 2026", runtime="simulated 1", threads=4)

    def capacity_bytes(self) -> int:
        """Memory that is free for programs."""
        return 4 * 2**30

    @contextmanager
    def open(self) -> Iterator["EmulatorWorker"]:
        """A worker, as long as the block runs."""
        yield EmulatorWorker()


class EmulatorWorker:
    """Loads programs, and computes what their calls would take."""

    info = WorkerInfo(free_bytes=4 * 2**30, hardware="phone of 2026", runtime="simulated 1")

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._seconds: dict[str, dict[str, float]] = {}
        self._rng = np.random.default_rng(0)

    def load(self, program: Program) -> Loaded:
        """Keeps the seconds of each feed of a program."""
        number = str(next(self._numbers))
        works = {feed.name: feed.work for feed in program.feeds}
        self._seconds[number] = {
            name: LAUNCH_S * work.launches + work.moved_bytes / BYTES_PER_S for name, work in works.items()
        }
        size, first_s = max(work.moved_bytes for work in works.values()), self._seconds[number]
        return Loaded(number, size, 0.1, {"emulator": 1}, {}, dict.fromkeys(works, 0.0), first_s)

    def run(self, program_id: str, feed_id: str, calls: int) -> Sequence[float]:
        """Seconds of each call."""
        if program_id not in self._seconds:
            raise ProgramError(f"no program {program_id!r} is loaded")
        return list(self._seconds[program_id][feed_id] * self._rng.normal(1, 0.01, calls))

    def unload(self, program_id: str) -> None:
        """Forgets a program."""
        del self._seconds[program_id]


if __name__ == "__main__":
    report = adaptare.overhead("tiny-random", device=Emulator(), ranks=[4, 16], prompts=[], seconds=3)
    for row in report.rows:
        print(
            f"{row.mode}, rank {row.rank}: {row.overhead:+.1%} [{row.overhead_lower:+.1%}, {row.overhead_upper:+.1%}]"
        )
