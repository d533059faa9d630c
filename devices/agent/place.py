"""Processors and memory that programs run on: those of the machine, or an accelerator and its memory."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Union

from adaptare.devices.agent import memory
from adaptare.devices.agent.machine import timer_step_s

# The clocks of an idle accelerator fall, and take some tenths of a second to rise again.
IDLE_S = 0.1
LEAST_BURSTS = 20
STEADY_BURSTS = 5
FASTER = 0.02
MOST_WARM_S = 2.0
# The resolution of timing events is about half a microsecond.
EVENT_STEP_S = 5e-7
SHARE_CALLS = 5


class Host:
    """The processors and the memory of the machine."""

    def __init__(self) -> None:
        self._others = bytearray()
        self.limit_bytes = sys.maxsize

    def facts(self) -> dict[str, Any]:
        """Facts that differ from those of the machine."""
        return {"timer_step_s": timer_step_s()}

    def state(self) -> dict[str, Any]:
        """Present state that may change latency, in addition to that of the machine."""
        return {}

    def held_bytes(self) -> int:
        """Memory held by this worker alone; 0 if not available."""
        return memory.private_bytes()

    def peak_bytes(self) -> int:
        """Largest memory of this worker so far; 0 if not available."""
        return memory.peak_bytes()

    def limit(self, asked_bytes: int, free_bytes: int) -> None:
        """Makes allocations beyond the limit fail; if that is 0, beyond the free memory of the machine."""
        self.limit_bytes = asked_bytes or free_bytes
        memory.limit_memory(self.limit_bytes)

    @contextlib.contextmanager
    def mapping(self, most_bytes: int) -> Iterator[None]:
        """Raises the limit by the file mappings made inside, of `most_bytes` at most."""
        memory.limit_memory(self.limit_bytes + memory.mapped_file_bytes() + most_bytes)
        try:
            yield
        finally:
            memory.limit_memory(self.limit_bytes + memory.mapped_file_bytes())

    def evict(self, size: int) -> None:
        """Reads `size` bytes of other memory, in place of the rest of the model of a stub."""
        if size > len(self._others):
            self._others = bytearray(b"1") * size
        self._others.find(b"0", 0, size)

    def timed(self, call: Callable[[], Any], restore: Callable[[], None], calls: int) -> list[float]:
        """Seconds of each call, excluding the restore functions."""
        clock = time.perf_counter
        seconds = []
        for _ in range(calls):
            restore()
            start = clock()
            call()
            seconds.append(clock() - start)
        return seconds

    def finish(self) -> None:
        """Waits until everything issued has finished."""

    def host_share(self, call: Callable[[], Any], restore: Callable[[], None]) -> float | None:
        """Share of a call in which the host issues it to an accelerator; `None` where the host computes."""
        return None

    def release(self) -> None:
        """Returns memory that is no longer used."""

    def lost(self, error: BaseException) -> bool:
        """True if no program can run any more after this error."""
        return False


class OnAccelerator:
    """An `Accelerator` and its memory; the methods are those of `Host`.

    Calls are timed by events on the accelerator, from an idle state to the end of the last kernel.
    """

    def __init__(self, accelerator: Any) -> None:
        self._accelerator = accelerator
        self._used_at_s = -IDLE_S
        self._issue_s: list[float] = []
        self.held_bytes: Callable[[], int] = accelerator.held_bytes
        self.peak_bytes: Callable[[], int] = accelerator.peak_bytes
        self.evict: Callable[[int], None] = accelerator.overwrite
        self.finish: Callable[[], None] = accelerator.synchronise
        self.release: Callable[[], None] = accelerator.release
        self.lost: Callable[[BaseException], bool] = accelerator.lost

    def facts(self) -> dict[str, Any]:
        """Name, memory and clock of the accelerator."""
        sizes = {"cache_bytes": self._accelerator.cache_bytes(), "free_bytes": self._accelerator.free_bytes()}
        return {"timer_step_s": EVENT_STEP_S, "accelerator": self._accelerator.name(), **sizes}

    def state(self) -> dict[str, Any]:
        """State of the accelerator, for the environment."""
        return {"known": {"accelerator": self._accelerator.facts()}}

    def limit(self, asked_bytes: int, free_bytes: int) -> None:
        """Limits the memory of the accelerator; allocations beyond its free memory fail anyway."""
        if 0 < asked_bytes < self._accelerator.free_bytes():
            self._accelerator.limit(asked_bytes)

    @contextlib.contextmanager
    def mapping(self, most_bytes: int) -> Iterator[None]:
        """Nothing to do: files are mapped into the memory of the machine, which is not limited."""
        yield

    def timed(self, call: Callable[[], Any], restore: Callable[[], None], calls: int) -> list[float]:
        """Seconds of each call by events, excluding the restore functions."""
        clock, wait, event = time.perf_counter, self._accelerator.synchronise, self._accelerator.event
        self._warm()
        seconds, self._issue_s = [], []
        for _ in range(calls):
            restore()
            start, end = event(), event()
            wait()
            issued = clock()
            start.record()
            call()
            end.record()
            self._issue_s.append(clock() - issued)
            wait()
            seconds.append(1e-3 * start.elapsed_time(end))
        self._used_at_s = clock()
        return seconds

    def host_share(self, call: Callable[[], Any], restore: Callable[[], None]) -> float | None:
        """Share of a call in which the host issues it: near 1, the accelerator waits for the host."""
        seconds = self.timed(call, restore, SHARE_CALLS)
        return statistics.median(
            min(1.0, issue / max(whole, EVENT_STEP_S)) for issue, whole in zip(self._issue_s, seconds)
        )

    def _warm(self) -> None:
        """Keeps the accelerator busy until bursts of equal work no longer become faster, unless it just was."""
        clock = time.perf_counter
        started = clock()
        if started - self._used_at_s < IDLE_S:
            return
        bursts, fastest, steady = 0, float("inf"), 0
        while bursts < LEAST_BURSTS or (steady < STEADY_BURSTS and clock() - started < MOST_WARM_S):
            before = clock()
            self._accelerator.burst()
            self._accelerator.synchronise()
            took = clock() - before
            steady = 0 if took < (1 - FASTER) * fastest else steady + 1
            fastest = min(fastest, took)
            bursts += 1


Place = Union[Host, OnAccelerator]
