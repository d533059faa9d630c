"""What this machine says of itself."""

import functools
import os
import platform


def allowed_processors() -> list[int]:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores() -> int:
    """Cores that this process may use, each counted once whatever number of threads it runs."""
    return len(set(_cores().values()))


def worker_processors(threads: int) -> list[int]:
    """Where so many threads run: the last processors, as the first tends to serve interrupts, each of another core.

    More threads than cores take the others too.
    """
    cores = _cores()
    alone = {core: processor for processor, core in cores.items()}.values()
    return [*(processor for processor in cores if processor not in alone), *sorted(alone)][-threads:]


def _cores() -> dict[int, str]:
    """Which core each allowed processor belongs to, ascending; a core of its own where the system does not tell."""
    found = {}
    for processor in allowed_processors():
        try:
            with open(
                f"/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list", encoding="ascii"
            ) as line:
                found[processor] = line.read().strip()
        except OSError:
            found[processor] = str(processor)
    return found


@functools.cache
def instruction_sets() -> str:
    """What the processor can do, as far as the system tells: libraries choose their kernels by it."""
    return _cpu_field("flags") or _cpu_field("Features") or platform.processor()


def _cpu_field(name: str) -> str:
    """The first such line of the system's list of processors; empty where there is none."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
    except OSError:
        return ""


@functools.cache
def hardware_name() -> str:
    """Processor model and architecture, as far as the system tells."""
    name = _cpu_field("model name") or _board() or platform.processor() or "unknown processor"
    return f"{name} ({platform.machine()})"


def _board() -> str:
    """The model of a board whose processor has no name, or who made that and as what part."""
    try:
        with open("/proc/device-tree/model", encoding="utf-8", errors="replace") as line:
            return line.read().strip("\0 \n")
    except OSError:
        return " ".join(filter(None, (_cpu_field("CPU implementer"), _cpu_field("CPU part"))))
