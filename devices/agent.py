"""The worker process: loads programs and times calls, spoken to in JSON lines over stdin and stdout.

This file needs nothing but the standard library; what loads a program comes from a runtime module with

    setup(options) -> None                       once, before anything is loaded
    load(source, arguments, copy) -> model       model.bind(arguments) -> (call, restore); either may raise
    providers(model) -> {name: nodes}
    attribute(source, arguments, feed, timed) -> (seconds, operators)
        loads for this alone, calls `timed(call, restore)` once with the runtime's profiler on, and says of each call
        {kind of operator: [calls, seconds]}
    prepare(source) -> None                      may be absent; imports what loading needs, before anything is counted
    settle() -> None                             may be absent; gives back what loading held, once a program was called
    mapped_bytes(source) -> int                  may be absent; most bytes of files that loading maps and does not copy

Copies of a program, numbered from 0, share no weights; those of one number may.
`call()` returns the program's first output as a flat sequence of numbers, or something with `tolist()`.
Each request carries a sequence number that its reply repeats; every list comes with its length; the end is an
explicit message. A link that breaks can therefore never look like success.
"""

import contextlib
import functools
import gc
import glob
import importlib
import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

OUTPUT_VALUES = 512
GROUP = "/sys/fs/cgroup"
FILES = ("inactive_file ", "active_file ")
# Below it a worker could not even answer.
LEAST_BYTES = 64 * 2**20
USUAL_CACHE_BYTES = 32 * 2**20
MOST_COPIES = 256
# A profiler's first events cost most.
WARM_CALLS = 3
NO_MEMORY = ("can't allocate memory", "Failed to allocate memory", "bad_alloc")


def energy_j(root: str = "/") -> float | None:
    """Counters of all processor packages, where they can be read; each starts again from 0 after some hours.

    Other zones are parts of a package, or the whole machine with its packages in it.
    """
    found = []
    for zone in glob.glob(os.path.join(root, "sys/class/powercap/intel-rapl:*")):
        with contextlib.suppress(OSError, ValueError):
            with open(f"{zone}/name", encoding="ascii") as name:
                package = name.read().startswith("package")
            if package:
                with open(f"{zone}/energy_uj", encoding="ascii") as counter:
                    found.append(int(counter.read()))
    return sum(found) / 1e6 if found else None


def private_bytes() -> int:
    """Memory that only this process holds, where the system tells; else 0."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
            sizes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    except OSError:
        return 0
    return sum(sizes) * 1024


def free_bytes() -> int:
    """Memory that could be given to a new program now; all there is where the system tells only that."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        found = []
    return min(found[0] * 1024, _left_in_group()) if found else _all_bytes()


def _left_in_group() -> int:
    """What the control group of this process, as that of a container, leaves of its memory.

    Files that were read are kept in memory as long as nobody wants it for something else.
    """
    try:
        limit, used = (int(_line(f"{GROUP}/memory.{name}")) for name in ("max", "current"))
        kept = [int(line.split()[1]) for line in _line(f"{GROUP}/memory.stat").splitlines() if line.startswith(FILES)]
        return min(limit, max(0, limit - used + sum(kept)))
    except (OSError, ValueError):  # none, or no limit
        return sys.maxsize


def _all_bytes() -> int:
    """Of the machine; as many as can be counted where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def last_level_cache_bytes() -> int:
    """Size of the largest caches of this process's processors, where the system tells; else that of a large one.

    Each group of processors that has one of its own keeps what it uses, so they count together.
    """
    largest: dict[str, int] = {}
    for processor in processors() or [0]:
        caches = {}
        folder = f"/sys/devices/system/cpu/cpu{processor}/cache"
        for name in os.listdir(folder) if os.path.isdir(folder) else []:
            try:
                size, shared = (_line(f"{folder}/{name}/{file}") for file in ("size", "shared_cpu_list"))
                caches[int(size.rstrip("K")) * 1024] = shared
            except (OSError, ValueError):
                continue
        if caches:
            largest[caches[max(caches)]] = max(caches)
    return sum(largest.values()) or USUAL_CACHE_BYTES


def _line(file: str) -> str:
    with open(file, encoding="ascii") as lines:
        return lines.read().strip()


def copies_in_turn(moved_bytes: int, others_bytes: int) -> int:
    """How many copies, called in turn, each find the caches as the rest of their model leaves them.

    Args:
        moved_bytes: By one call.
        others_bytes: By the rest between two calls; what fills the caches twice leaves nothing in them.
    """
    return min(MOST_COPIES, 1 + -(-min(2 * last_level_cache_bytes(), others_bytes) // max(1, moved_bytes)))


def peak_bytes() -> int:
    """The most memory that this process has had resident so far, where the system tells; else 0."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    except OSError:
        return 0
    return found[0] * 1024 if found else 0


def limit_memory(limit_bytes: int) -> None:
    """Lets allocations beyond the limit fail inside this process instead of taking the machine down."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_DATA, (min(limit_bytes, allowed), hard))


def mapped_file_bytes() -> int:
    """Bytes of files mapped privately and to be written, which the limit counts; what is only read takes no memory."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
            fields = [line.split(maxsplit=5) for line in lines]
    except OSError:
        return 0
    ends = [each[0].split("-") for each in fields if each[1].startswith("rw-p") and each[4] != "0"]
    return sum(int(end, 16) - int(start, 16) for start, end in ends)


def pin(processors: list[int]) -> None:
    """Keeps this process on the given processors."""
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)


def processors() -> list[int]:
    """Those this process may run on, where the system says so."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def timer_step_s() -> float:
    """Smallest difference the clock showed in 1,000 readings."""
    readings = [time.perf_counter() for _ in range(1000)]
    steps = [later - earlier for earlier, later in itertools.pairwise(readings) if later > earlier]
    return min(steps, default=time.get_clock_info("perf_counter").resolution)


def sample_output(output: Any) -> list[float]:
    """At most 512 values of an output, evenly spaced over all of it."""
    flat = output.tolist() if hasattr(output, "tolist") else list(output)
    step = max(1, -(-len(flat) // OUTPUT_VALUES))
    return [float(value) for value in flat[::step]]


def in_turn(bound: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    """One call and one restoring, each time those of the next copy."""
    if len(bound) == 1:
        return bound[0]
    calls, restores = (itertools.cycle(each) for each in zip(*bound, strict=True))
    return lambda: next(calls)(), lambda: next(restores)()


class OtherMemory:
    """What is read in place of the rest of a model."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def before(self, restore: Callable[[], None], size: int) -> Callable[[], None]:
        """Reads so many bytes and restores."""
        if size > len(self._bytes):
            self._bytes = bytearray(b"1") * size

        def read_and_restore() -> None:
            self._bytes.find(b"0", 0, size)
            restore()

        return read_and_restore if size else restore


def timed_calls(call: Callable[[], Any], restore: Callable[[], None], calls: int) -> list[float]:
    """Seconds of each call; restoring and collecting garbage are left out of them."""
    clock = time.perf_counter
    seconds = []
    gc.disable()
    try:
        for _ in range(calls):
            restore()
            start = clock()
            call()
            seconds.append(clock() - start)
    finally:
        gc.enable()
    return seconds


class Agent:
    """Answers one request at a time."""

    def __init__(self, runtime: Any) -> None:
        self.runtime = runtime
        self.feeds: dict[str, dict[str, Any]] = {}
        self.others = OtherMemory()
        self.memory_bytes = sys.maxsize

    def hello(self, request: dict[str, Any]) -> dict[str, Any]:
        """Settles threads, processors and memory before anything is loaded."""
        pin(request["processors"])
        self.runtime.setup(request["options"])
        free = free_bytes()
        self.memory_bytes = request["memory_bytes"] or max(free, LEAST_BYTES)
        limit_memory(self.memory_bytes)
        return {
            "free_bytes": min(free, self.memory_bytes),
            "processors": processors(),
            "timer_step_s": timer_step_s(),
            "pid": os.getpid(),
        }

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        """Builds a program, in as many copies as are called in turn, binds its feeds and calls each copy once."""
        if hasattr(self.runtime, "prepare"):
            self.runtime.prepare(request["source"])
        copies = copies_in_turn(request["moved_bytes"], request["others_bytes"])
        with self._mapping(request["source"], copies):
            return self._load(request, copies)

    def _load(self, request: dict[str, Any], copies: int) -> dict[str, Any]:
        before, clock = private_bytes(), time.perf_counter
        start = clock()
        numbers = range(1, copies + 1) if copies > 1 else range(1)
        unfilled = max(0, 2 * last_level_cache_bytes() - request["moved_bytes"])
        between = min(request["between_bytes"], unfilled)
        models = [self.runtime.load(request["source"], request["arguments"], number) for number in numbers]
        model = models[0]
        bound, outputs, bind_s, first_call_s = {}, {}, {}, {}
        for feed in request["feeds"]:
            name, unbound = feed["name"], clock()
            call, restore = in_turn([copy.bind(feed["arguments"]) for copy in models])
            bind_s[name] = clock() - unbound
            restore()
            uncalled = clock()
            output = call()
            first_call_s[name] = clock() - uncalled
            outputs[name] = sample_output(output)
            for _ in models[1:]:
                restore()
                call()
            bound[name] = (call, self.others.before(restore, between))
        if hasattr(self.runtime, "settle"):
            self.runtime.settle()
        load_s = clock() - start
        self.feeds[request["program_id"]] = bound
        gc.collect()
        return {
            "resident_bytes": max(0, private_bytes() - before),
            "peak_bytes": peak_bytes(),
            "copies": copies,
            "load_s": load_s,
            "bind_s": bind_s,
            "first_call_s": first_call_s,
            "providers": self.runtime.providers(model),
            "outputs": outputs,
        }

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Times the calls, one by one."""
        feeds = self._loaded(request["program_id"])
        if request["feed_id"] not in feeds:
            raise LookupError(f"the program has no feed {request['feed_id']!r}; it has {sorted(feeds)}")
        call, restore = feeds[request["feed_id"]]
        seconds = timed_calls(call, restore, request["calls"])
        return {"count": len(seconds), "seconds": seconds}

    def energy(self, request: dict[str, Any]) -> dict[str, Any]:
        """What the counters stand at."""
        return {"energy_j": energy_j()}

    def attribute(self, request: dict[str, Any]) -> dict[str, Any]:
        """Says which operators take the time of each call, in a loading of its own; profiling slows the calls down."""
        calls = request["calls"]
        timed = functools.partial(timed_calls, calls=WARM_CALLS + calls)
        with self._mapping(request["source"], 1):
            seconds, operators = self.runtime.attribute(request["source"], request["arguments"], request["feed"], timed)
        gc.collect()
        return {"count": calls, "seconds": seconds[WARM_CALLS:], "operators": operators[WARM_CALLS:]}

    def unload(self, request: dict[str, Any]) -> dict[str, Any]:
        """Forgets a program."""
        self._loaded(request["program_id"])
        del self.feeds[request["program_id"]]
        gc.collect()
        return {}

    @contextlib.contextmanager
    def _mapping(self, source: str, copies: int) -> Iterator[None]:
        """Lets loading map files beyond the limit, and what stays mapped lie beyond it from then on."""
        most = self.runtime.mapped_bytes(source) if hasattr(self.runtime, "mapped_bytes") else 0
        limit_memory(self.memory_bytes + mapped_file_bytes() + copies * most)
        try:
            yield
        finally:
            limit_memory(self.memory_bytes + mapped_file_bytes())

    def _loaded(self, program_id: str) -> dict[str, Any]:
        if program_id not in self.feeds:
            raise LookupError(f"no program {program_id!r} is loaded")
        return self.feeds[program_id]


def is_memory_error(error: BaseException) -> bool:
    """Whether an allocation failed; torch and ONNX Runtime say so only in words."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def serve(agent: Agent, requests: Any, replies: Any) -> None:
    """Answers until the explicit end or until the other side is gone."""
    for line in requests:
        request = json.loads(line)
        if request["op"] == "close":
            replies.write(json.dumps({"seq": request["seq"], "ok": True, "end": True}) + "\n")
            replies.flush()
            return
        try:
            reply = {"ok": True, **getattr(agent, request["op"])(request)}
        except Exception as error:  # whatever a program raises is an answer, not the end
            traceback.print_exc()
            kind = "out of memory" if is_memory_error(error) else type(error).__name__
            reply = {"ok": False, "error": f"{kind}: {error}"}
        replies.write(json.dumps({"seq": request["seq"], **reply}) + "\n")
        replies.flush()


def main(runtime_name: str) -> None:
    """Serves on the standard streams; what libraries print goes to stderr and cannot break the protocol."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Agent(importlib.import_module(runtime_name)), sys.stdin, replies)


if __name__ == "__main__":
    main(sys.argv[1])
