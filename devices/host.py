"""What this machine says of itself."""

import functools
import os
import platform

import psutil


def allowed_processors() -> list[int]:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores() -> int:
    """Cores without hyper-threads, at most as many as this process may use."""
    return max(1, min(psutil.cpu_count(logical=False) or 1, len(allowed_processors())))


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
    return f"{_cpu_field('model name') or platform.processor() or 'unknown processor'} ({platform.machine()})"
