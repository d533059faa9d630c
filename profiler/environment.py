"""What the machine says of itself while it is measured; what it does not say is `None`."""

import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import psutil

from adaptare.devices import allowed_processors, energy_j, hardware_name

PACKAGES = ("adaptare", "numpy", "torch", "transformers", "peft", "onnxruntime")


def environment(root: Path = Path("/")) -> dict[str, Any]:
    """A snapshot, as plain JSON values.

    Counters (`steal_s`, `energy_j`, switches) go on from some start, so that two snapshots tell what lay between them.

    Args:
        root: Where the system's own files are.
    """
    cpu = root / "sys/devices/system/cpu/cpu0/cpufreq"
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "processor": hardware_name(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_processors": os.cpu_count(),
        "allowed_processors": allowed_processors(),
        "virtualisation": _virtualisation(root),
        "governor": _first_line(cpu / "scaling_governor"),
        "frequency_hz": _frequency_hz(),
        "clock_source": _first_line(root / "sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "large_pages": _first_line(root / "sys/kernel/mm/transparent_hugepage/enabled"),
        "malloc_tunables": os.environ.get("GLIBC_TUNABLES"),
        "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        "pressure": {name: _first_line(root / "proc/pressure" / name) for name in ("cpu", "memory")},
        "steal_s": getattr(psutil.cpu_times(), "steal", None),
        "switches": _switches(),
        "free_bytes": psutil.virtual_memory().available,
        "temperature_c": _temperature_c(),
        "energy_j": energy_j(str(root)),
    }


def _virtualisation(root: Path) -> str | None:
    """What the machine runs under, in the system's words; only x86 processors say that there is nothing."""
    flags = next((line.split() for line in _lines(root / "proc/cpuinfo") if line.startswith("flags")), None)
    named = _first_line(root / "sys/hypervisor/type")
    if named or flags is None:
        return named
    if "hypervisor" not in flags:
        return "none"
    product = [_first_line(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(filter(None, product)) or "unnamed hypervisor"


def _frequency_hz() -> dict[str, float | None] | None:
    """Mean of the processors now, and the limits; nothing where the system does not tell, each in its own way."""
    try:
        mhz = psutil.cpu_freq()
    except (AttributeError, NotImplementedError, OSError):
        return None
    return {name: getattr(mhz, name) * 1e6 or None for name in ("current", "min", "max")} if mhz else None


def _temperature_c() -> dict[str, float] | None:
    """The hottest reading of each sensor."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    return {name: max(each.current for each in readings) for name, readings in sensors.items()} or None


def _switches() -> dict[str, int] | None:
    """How often this process, and the workers that it has ended, gave a processor up or lost it."""
    try:
        import resource
    except ImportError:
        return None
    own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "own_voluntary": own.ru_nvcsw,
        "own_involuntary": own.ru_nivcsw,
        "workers_voluntary": workers.ru_nvcsw,
        "workers_involuntary": workers.ru_nivcsw,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(file: Path) -> str | None:
    return next(iter(_lines(file)), None)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
