"""What the machine says of itself while it is measured; what it does not say is `None`."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("adaptare", "numpy", "torch", "transformers", "peft", "onnxruntime")


def environment() -> dict[str, Any]:
    """A snapshot, as plain JSON values."""
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "logical_processors": os.cpu_count(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock_source": _first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "pressure": _first_line("/proc/pressure/cpu"),
        "steal_s": getattr(psutil.cpu_times(), "steal", None),
        "free_bytes": psutil.virtual_memory().available,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(file: str) -> str | None:
    try:
        return Path(file).read_text(encoding="ascii").splitlines()[0]
    except (OSError, IndexError):
        return None
