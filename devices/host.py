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
def hardware_name() -> str:
    """Processor model and architecture, as far as the system tells."""
    model = ""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return f"{model or platform.processor() or 'unknown processor'} ({platform.machine()})"
