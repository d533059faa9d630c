"""The agent: loads programs and times calls, controlled by JSON lines over stdin and stdout.

Each reply repeats the sequence number of its request; every list is sent with its length; the end is an explicit
message. A broken connection can therefore not be mistaken for success.
"""

from __future__ import annotations

import functools
import gc
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from adaptare.devices.agent import memory
from adaptare.devices.agent.files import Files
from adaptare.devices.agent.forks import ASKED_TO_END, continued_in_fork
from adaptare.devices.agent.machine import raw_facts, restrict
from adaptare.devices.agent.place import Host, OnAccelerator, Place
from adaptare.devices.agent.runtime import AbsentError, AttributingRuntime, Bound, PreparedRuntime, Runtime

# Methods of `Agent` that a request can name.
OPERATIONS = ("machine", "hello", "missing", "forget", "fork", "load", "run", "attribute", "unload")
OUTPUT_VALUES = 512
# The first events of a profiler are the most expensive.
WARM_CALLS = 3
NO_MEMORY = (
    "can't allocate memory",
    "Failed to allocate memory",
    "failed to allocate",
    "unable to allocate",
    "bad_alloc",
    "out of memory",
)


class OptionError(ValueError):
    """The device does not support the requested options."""


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
    """Answers one request at a time; `root` is the folder with the files of the system."""

    def __init__(self, runtime: Runtime, files: Files, root: str = "/") -> None:
        self.runtime = runtime
        self.files = files
        self.root = root
        self.place: Place = Host()
        self.feeds: dict[str, dict[str, Bound]] = {}

    def machine(self, request: dict[str, Any]) -> dict[str, Any]:
        """Reports the present state of the machine, as raw facts."""
        return {"machine": {**raw_facts(request, self.root), **self.place.state()}}

    def hello(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sets processors, threads and memory before anything is loaded, and reports the facts about the runtime."""
        if request["processors"]:
            restrict(request["processors"])
        try:
            facts = self.runtime.setup(request["threads"], request["options"])
        except ValueError as error:
            raise OptionError(str(error)) from error
        if facts.accelerator:
            self.place = OnAccelerator(facts.accelerator)
        self.place.limit(request["memory_bytes"], request["free_bytes"])
        return {
            "runtime": facts.version,
            "threads": request["threads"],
            "providers": list(facts.providers),
            "capabilities": [
                *["attribution"] * isinstance(self.runtime, AttributingRuntime),
                *["adapter_file"] * getattr(self.runtime, "reads_adapter_files", False),
                "forget",
                # Only on Linux does a fork end with its parent; libraries of macOS do not survive one.
                *["fork"] * (sys.platform == "linux" and not facts.accelerator),
            ],
            **self.place.facts(),
        }

    def missing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Lists the files to transfer before a program can be loaded."""
        return {"missing": self.files.missing(request["digests"])}

    def forget(self, request: dict[str, Any]) -> dict[str, Any]:
        """Drops files from the page cache, so that the next load reads them from storage."""
        forgotten = [memory.forget(self.files.content(digest)) for digest in request["digests"]]
        return {"forgotten": bool(forgotten) and all(forgotten)}

    def fork(self, request: dict[str, Any]) -> dict[str, Any]:
        """Imports the packages of a program; `serve` then continues in a fork, which does not collect their garbage."""
        if isinstance(self.runtime, PreparedRuntime):
            self.runtime.prepare(request["source"])
        self.feeds.clear()
        gc.collect()
        gc.freeze()
        return {}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds a program, in as many copies as are called in turn, binds its feeds, and calls each copy once."""
        if isinstance(self.runtime, PreparedRuntime):
            self.runtime.prepare(request["source"])
        folder = self.files.placed(request["files"])
        with self.place.mapping(request["copies"] * mapped_bytes(folder, request["source"])):
            return self._load(request, folder)

    def _load(self, request: dict[str, Any], folder: str) -> dict[str, Any]:
        copies = request["copies"]
        before, clock = self.place.held_bytes(), time.perf_counter
        start = clock()
        numbers = range(1, copies + 1) if copies > 1 else range(1)
        models = [self.runtime.load(folder, request["source"], request["arguments"], number) for number in numbers]
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
            bound[name] = (call, after_eviction(self.place.evict, restore, request["between_bytes"]))
        load_s = clock() - start
        shares = {name: self.place.host_share(*feed_bound) for name, feed_bound in bound.items()}
        self.feeds[request["program_id"]] = bound
        gc.collect()
        return {
            "resident_bytes": max(0, self.place.held_bytes() - before),
            "peak_bytes": self.place.peak_bytes(),
            "load_s": load_s,
            "bind_s": bind_s,
            "first_call_s": first_call_s,
            "providers": models[0].nodes(),
            "outputs": outputs,
            "host_share": {name: share for name, share in shares.items() if share is not None},
        }

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Times each call."""
        feeds = self._loaded(request["program_id"])
        if request["feed_id"] not in feeds:
            raise LookupError(f"the program has no feed {request['feed_id']!r}; it has {sorted(feeds)}")
        seconds = self.place.timed(*feeds[request["feed_id"]], request["calls"])
        return {"count": len(seconds), "seconds": seconds}

    def attribute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Attributes the time of each call to operators, in a separate load; profiling slows the calls down."""
        if not isinstance(self.runtime, AttributingRuntime):
            raise LookupError("this runtime does not attribute time to operators")
        calls, source = request["calls"], request["source"]
        folder = self.files.placed(request["files"])
        timed = functools.partial(self.place.timed, calls=WARM_CALLS + calls)
        with self.place.mapping(mapped_bytes(folder, source)):
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


def mapped_bytes(folder: str, source: str) -> int:
    """Maximum bytes of a program that are mapped instead of allocated: its files but the main one."""
    return sum(os.stat(os.path.join(folder, name)).st_size for name in os.listdir(folder) if name != source)


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
    """Answers requests until the explicit end or the end of the stream; after `fork`, in a fork until its end."""
    in_fork = False
    for line in requests:
        request = json.loads(line)
        if request["op"] == "close":
            replies.write(json.dumps({"seq": request["seq"], "ok": True, "end": True}) + "\n")
            replies.flush()
            break
        try:
            if request["op"] not in OPERATIONS:
                raise LookupError(f"there is no operation {request['op']!r}")
            reply = {"ok": True, **getattr(agent, request["op"])(request)}
        except Exception as error:  # any exception of a program is answered, and serving continues
            traceback.print_exc()
            if agent.place.lost(error):  # the process ends, which the host reports
                raise
            reply = failure(error)
        if request["op"] == "fork" and reply["ok"]:
            if not continued_in_fork(replies.fileno()):
                continue
            in_fork = True
        replies.write(json.dumps({"seq": request["seq"], **reply}) + "\n")
        replies.flush()
    if in_fork:
        os._exit(ASKED_TO_END)
