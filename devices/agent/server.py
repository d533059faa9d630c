"""The agent: loads programs and times calls, controlled by JSON lines over stdin and stdout.

Each reply repeats the sequence number of its request; every list is sent with its length; the end is an explicit
message. A broken connection can therefore not be mistaken for success.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from adaptare.devices.agent import memory
from adaptare.devices.agent.files import Files
from adaptare.devices.agent.machine import Machine, pin, processors
from adaptare.devices.agent.place import Host, Place
from adaptare.devices.agent.runtime import AbsentError, Bound, Runtime

OUTPUT_VALUES = 512
# Minimum memory for a worker to be able to reply.
LEAST_BYTES = 64 * 2**20
MOST_COPIES = 256
# The first events of a profiler are the most expensive.
WARM_CALLS = 3
NO_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc", "out of memory")
CAPABILITIES = ("attribution", "environment", "forget")


class OptionError(ValueError):
    """The device does not support the requested options."""


def copies_in_turn(moved_bytes: int, others_bytes: int, cache_bytes: int) -> int:
    """Number of copies such that calling them in turn leaves each the cache state of a call within its model.

    Args:
        moved_bytes: Bytes moved by one call.
        others_bytes: Bytes moved by the rest of the model between two calls; twice the cache size evicts all.
        cache_bytes: Size of the last-level caches.
    """
    return min(MOST_COPIES, 1 + -(-min(2 * cache_bytes, others_bytes) // max(1, moved_bytes)))


def sample_output(output: Any) -> list[float]:
    """At most 512 values of an output, evenly spaced."""
    flat = output.tolist() if hasattr(output, "tolist") else list(output)
    step = max(1, -(-len(flat) // OUTPUT_VALUES))
    return [float(value) for value in flat[::step]]


def in_turn(bound: Sequence[Bound]) -> Bound:
    """Call and restore functions that cycle through the copies."""
    if len(bound) == 1:
        return bound[0]
    calls, restores = (itertools.cycle(functions) for functions in zip(*bound))
    return lambda: next(calls)(), lambda: next(restores)()


def after_eviction(evict: Callable[[int], None], restore: Callable[[], None], size: int) -> Callable[[], None]:
    """Restore function that first uses `size` bytes of other memory."""

    def evict_and_restore() -> None:
        evict(size)
        restore()

    return evict_and_restore if size else restore


class Agent:
    """Answers one request at a time.

    Args:
        runtime: Loads and runs programs.
        machine: Provides the facts about the machine.
        files: Program files stored on the device.
    """

    def __init__(self, runtime: Runtime, machine: Machine, files: Files) -> None:
        self.runtime = runtime
        self.machine = machine
        self.files = files
        self.place: Place = Host(machine)
        self.feeds: dict[str, dict[str, Bound]] = {}
        self.gap_s = 0.0
        self.last_program = ""

    def hello(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sets threads, processors and memory before anything is loaded, and reports the facts about the device."""
        threads, available = request["threads"] or self.machine.physical_cores(), len(processors())
        if not 1 <= threads <= available:
            raise OptionError(f"threads must be 1 to {available} here, not {threads}")
        if request["pin"]:
            pin(self.machine.processors_for(threads))
        try:
            self.runtime.setup(threads, request["options"])
        except ValueError as error:
            raise OptionError(str(error)) from error
        self.place = place = self.runtime.place(self.machine)
        gap_s = request["gap_s"]
        self.gap_s = gap_s if gap_s is not None else place.gap_s(threads)
        free = place.free_bytes()
        limit_bytes = request["memory_bytes"] or max(free, LEAST_BYTES)
        place.limit(limit_bytes)
        energy = ["energy"] * (place.energy_j() is not None)
        return {
            "hardware": place.hardware(),
            "runtime": self.runtime.version(),
            "threads": threads,
            "gap_s": self.gap_s,
            "free_bytes": min(free, limit_bytes),
            "processors": processors(),
            "cache_bytes": place.cache_bytes(),
            "timer_step_s": place.timer_step_s(),
            "providers": list(self.runtime.providers()),
            "capabilities": sorted([*CAPABILITIES, *energy]),
            "environment": place.environment(),
        }

    def environment(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reports the present state of the machine."""
        return {"environment": self.place.environment()}

    def missing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Lists the files to transfer before a program can be loaded."""
        return {"missing": self.files.missing(request["digests"])}

    def forget(self, request: dict[str, Any]) -> dict[str, Any]:
        """Drops files from the page cache, so that the next load reads them from storage."""
        forgotten = [memory.forget(self.files.content(digest)) for digest in request["digests"]]
        return {"forgotten": bool(forgotten) and all(forgotten)}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds a program, in as many copies as are called in turn, binds its feeds, and calls each copy once."""
        self.runtime.prepare(request["source"])
        folder = self.files.placed(request["files"])
        traffic = request["moved_bytes"], request["others_bytes"]
        copies = copies_in_turn(*traffic, self.place.cache_bytes()) if self.place.has_copies else 1
        with self.place.mapping(copies * self.runtime.mapped_bytes(folder, request["source"])):
            return self._load(request, folder, copies)

    def _load(self, request: dict[str, Any], folder: str, copies: int) -> dict[str, Any]:
        before, clock = self.place.held_bytes(), time.perf_counter
        start = clock()
        numbers = range(1, copies + 1) if copies > 1 else range(1)
        models = [self.runtime.load(folder, request["source"], request["arguments"], number) for number in numbers]
        unfilled = max(0, 2 * self.place.cache_bytes() - request["moved_bytes"])
        between = min(request["between_bytes"] + (0 if self.place.has_copies else request["others_bytes"]), unfilled)
        bound: dict[str, Bound] = {}
        outputs, bind_s, first_call_s = {}, {}, {}
        for feed in request["feeds"]:
            name, unbound = feed["name"], clock()
            call, restore = in_turn([copy.bind(feed["arguments"]) for copy in models])
            bind_s[name] = clock() - unbound
            restore()
            uncalled = clock()
            output = call()
            self.place.finish()
            first_call_s[name] = clock() - uncalled
            outputs[name] = sample_output(output)
            for _ in models[1:]:
                restore()
                call()
            bound[name] = (call, after_eviction(self.place.evict, restore, between))
        load_s = clock() - start
        shares = {name: self.place.host_share(*feed_bound) for name, feed_bound in bound.items()}
        self.feeds[request["program_id"]] = bound
        gc.collect()
        return {
            "resident_bytes": max(0, self.place.held_bytes() - before),
            "peak_bytes": self.place.peak_bytes(),
            "copies": copies,
            "load_s": load_s,
            "bind_s": bind_s,
            "first_call_s": first_call_s,
            "providers": models[0].nodes(),
            "outputs": outputs,
            "host_share": {name: share for name, share in shares.items() if share is not None},
        }

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Times each call, after a pause until the threads of the previous program are idle."""
        program, feeds = request["program_id"], self._loaded(request["program_id"])
        if request["feed_id"] not in feeds:
            raise LookupError(f"the program has no feed {request['feed_id']!r}; it has {sorted(feeds)}")
        if self.gap_s and program != self.last_program:
            time.sleep(self.gap_s)
        self.last_program = program
        seconds = self.place.timed(*feeds[request["feed_id"]], request["calls"])
        return {"count": len(seconds), "seconds": seconds}

    def energy(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reads the energy counters."""
        return {"energy_j": self.place.energy_j()}

    def attribute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Attributes the time of each call to operators, in a separate load; profiling slows the calls down."""
        calls, source = request["calls"], request["source"]
        folder = self.files.placed(request["files"])
        timed = functools.partial(self.place.timed, calls=WARM_CALLS + calls)
        with self.place.mapping(self.runtime.mapped_bytes(folder, source)):
            seconds, operators = self.runtime.attribute(folder, source, request["arguments"], request["feed"], timed)
        gc.collect()
        return {"count": calls, "seconds": seconds[WARM_CALLS:], "operators": operators[WARM_CALLS:]}

    def unload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Unloads a program."""
        self._loaded(request["program_id"])
        del self.feeds[request["program_id"]]
        gc.collect()
        self.place.release()
        return {}

    def _loaded(self, program_id: str) -> dict[str, Bound]:
        if program_id not in self.feeds:
            raise LookupError(f"no program {program_id!r} is loaded")
        return self.feeds[program_id]


def failure(error: BaseException) -> dict[str, Any]:
    """Reply to a request that raised. Torch and ONNX Runtime report failed allocations in the message only."""
    no_memory = isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)
    kind = "out of memory" if no_memory else type(error).__name__
    reply = {"ok": False, "error": f"{kind}: {error}"}
    if isinstance(error, OptionError):
        return {**reply, "error": str(error), "cause": "option"}
    if isinstance(error, AbsentError):
        return {**reply, "error": str(error), "cause": "device"}
    if isinstance(error, ImportError) and error.name:
        absent = isinstance(error, ModuleNotFoundError)
        text = f"{error.name} is not installed" if absent else str(error)
        return {**reply, "error": text, "cause": "package", "package": error.name}
    return reply


def refuse(error: BaseException, requests: Any, replies: Any) -> None:
    """Answers the first request with an error that prevents serving."""
    request = json.loads(next(iter(requests)))
    replies.write(json.dumps({"seq": request["seq"], **failure(error)}) + "\n")
    replies.flush()


def serve(agent: Agent, requests: Any, replies: Any) -> None:
    """Answers requests until the explicit end or the end of the stream."""
    for line in requests:
        request = json.loads(line)
        if request["op"] == "close":
            replies.write(json.dumps({"seq": request["seq"], "ok": True, "end": True}) + "\n")
            replies.flush()
            return
        try:
            reply = {"ok": True, **getattr(agent, request["op"])(request)}
        except Exception as error:  # any exception of a program is answered, and serving continues
            traceback.print_exc()
            if agent.place.lost(error):  # the process ends, which the host reports
                raise
            reply = failure(error)
        replies.write(json.dumps({"seq": request["seq"], **reply}) + "\n")
        replies.flush()
