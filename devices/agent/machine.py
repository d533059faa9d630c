"""Facts about the agent's machine, from system files; `None` if not available."""

from __future__ import annotations

import contextlib
import datetime
import glob
import itertools
import os
import platform
import sys
import time
from collections.abc import Sequence
from typing import Any

USUAL_CACHE_BYTES = 32 * 2**20
FILES = ("inactive_file ", "active_file ")
# Environment variables read by allocators, thread pools and runtimes.
POOLS = ("GOMP_", "KMP_", "MKL_", "OMP_", "OPENBLAS_")
VARIABLES = (*POOLS, "CUDA_", "GLIBC_", "LD_", "MALLOC_", "ORT_", "PYTORCH_", "TORCH_")
PACKAGES = ("numpy", "onnxruntime", "peft", "torch", "transformers")


class Machine:
    """The machine, as described by the system files under `root`.

    Args:
        root: Folder that contains `proc` and `sys`.
    """

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def hardware(self) -> str:
        """Model of the processor or of the board, and architecture."""
        name = self._processor_field("model name") or self._board() or platform.processor() or "unknown processor"
        return f"{name} ({platform.machine()})"

    def physical_cores(self) -> int:
        """Cores available to this process, each counted once for all its hardware threads."""
        return len(set(self._cores().values()))

    def processors_for(self, threads: int) -> list[int]:
        """Processors for pinned threads: the last ones, as the first tends to serve interrupts, and one per core.

        With more threads than cores, the others are used too.
        """
        cores = self._cores()
        alone = {core: processor for processor, core in cores.items()}.values()
        return [*(processor for processor in cores if processor not in alone), *sorted(alone)][-threads:]

    def _cores(self) -> dict[int, str]:
        """Processor -> core, ascending; one core each if the topology is not available."""
        topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
        return {processor: self._line(topology.format(processor)) or str(processor) for processor in processors()}

    def cache_bytes(self) -> int:
        """Size of the last-level caches of this process's processors; a typical size if not available.

        Each group of processors with a separate cache uses it independently, so the sizes are added.
        """
        largest: dict[str, int] = {}
        for processor in processors():
            caches = {}
            for folder in glob.glob(self._path(f"sys/devices/system/cpu/cpu{processor}/cache/index*")):
                size, shared = (_line(os.path.join(folder, name)) for name in ("size", "shared_cpu_list"))
                if size and shared and size.endswith("K"):
                    caches[1024 * int(size[:-1])] = shared
            if caches:
                largest[caches[max(caches)]] = max(caches)
        return sum(largest.values()) or USUAL_CACHE_BYTES

    def free_bytes(self) -> int:
        """Memory available to a new program; total memory if only that is known."""
        available = self._fields("proc/meminfo").get("MemAvailable")
        return min(1024 * int(available.split()[0]), self._left_in_group()) if available else _all_bytes()

    def _left_in_group(self) -> int:
        """Memory left by the control group of this process, such as that of a container.

        The page cache counts as available, because it is reclaimed on demand.
        """
        limit, used = (self._line(f"sys/fs/cgroup/memory.{name}") or "" for name in ("max", "current"))
        if not (limit.isdigit() and used.isdigit()):  # none, or no limit
            return sys.maxsize
        lines = lines_of(self._path("sys/fs/cgroup/memory.stat"))
        kept = [int(line.split()[1]) for line in lines if line.startswith(FILES)]
        return min(int(limit), max(0, int(limit) - int(used) + sum(kept)))

    def energy_j(self) -> float | None:
        """Joules counted by all processor packages; each counter restarts from 0 after some hours.

        Other zones are parts of a package, or the whole machine including its packages.
        """
        counters = []
        for zone in glob.glob(self._path("sys/class/powercap/intel-rapl:*")):
            name, counter = _line(os.path.join(zone, "name")), _line(os.path.join(zone, "energy_uj"))
            if name and name.startswith("package") and counter and counter.isdigit():
                counters.append(int(counter))
        return sum(counters) / 1e6 if counters else None

    def environment(self) -> dict[str, Any]:
        """Snapshot of everything that may change latency and is not part of the device's identity.

        Counters (`steal_s`, `energy_j`, `switches`) start at an arbitrary time; only differences of snapshots are
        meaningful.
        """
        return {
            "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            # Equal for everything that shares the processors of one machine, from its start on.
            "boot": self._line("proc/sys/kernel/random/boot_id"),
            "system": f"{platform.system()} {platform.release()} ({platform.machine()})",
            "python": platform.python_version(),
            "packages": _versions(),
            "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(VARIABLES)},
            "physical_cores": self.physical_cores(),
            "logical_processors": os.cpu_count(),
            "allowed_processors": processors(),
            "virtualisation": self._virtualisation(),
            "governor": self._line("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "frequency_hz": self._frequency_hz(),
            "clusters": self._clusters(),
            "clock_source": self._line("sys/devices/system/clocksource/clocksource0/current_clocksource"),
            "large_pages": self._line("sys/kernel/mm/transparent_hugepage/enabled"),
            "load_average": list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
            "pressure": {name: self._line(f"proc/pressure/{name}") for name in ("cpu", "memory")},
            "steal_s": self._steal_s(),
            "switches": _switches(),
            "free_bytes": self.free_bytes(),
            "temperature_c": self._temperature_c(),
            "battery": self._battery(),
            "energy_j": self.energy_j(),
        }

    def _virtualisation(self) -> str | None:
        """Name of the hypervisor; only x86 processors report its absence."""
        named, flags = self._line("sys/hypervisor/type"), self._processor_field("flags")
        if named or not flags:
            return named
        if "hypervisor" not in flags.split():
            return "none"
        product = [self._line(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
        return " ".join(filter(None, product)) or "unnamed hypervisor"

    def _frequency_hz(self) -> dict[str, float | None] | None:
        """Mean over the processors at present, and the limits of the first."""
        now = [float(line.split(":")[1]) for line in lines_of(self._path("proc/cpuinfo")) if line.startswith("cpu MHz")]
        folder = "sys/devices/system/cpu/cpu0/cpufreq"
        files = {"current": "scaling_cur_freq", "min": "cpuinfo_min_freq", "max": "cpuinfo_max_freq"}
        read = {name: self._line(f"{folder}/{file}") for name, file in files.items()}
        hertz = {name: 1e3 * float(khz) if khz and khz.isdigit() else None for name, khz in read.items()}
        if now:
            hertz["current"] = 1e6 * sum(now) / len(now)
        return hertz if any(hertz.values()) else None

    def _clusters(self) -> list[dict[str, Any]] | None:
        """Groups of processors that share a clock, with its present, allowed and highest frequency."""
        files = {"current_hz": "scaling_cur_freq", "allowed_hz": "scaling_max_freq", "max_hz": "cpuinfo_max_freq"}
        clusters = []
        for folder in sorted(glob.glob(self._path("sys/devices/system/cpu/cpufreq/policy*"))):
            named = {"processors": "related_cpus", "governor": "scaling_governor"}
            words = {name: _line(os.path.join(folder, file)) for name, file in named.items()}
            read = {name: _line(os.path.join(folder, file)) for name, file in files.items()}
            hertz = {name: 1e3 * float(khz) if khz and khz.isdigit() else None for name, khz in read.items()}
            clusters.append({**words, **hertz})
        return clusters or None

    def _temperature_c(self) -> dict[str, float] | None:
        """Maximum over the sensors of each kind."""
        highest: dict[str, float] = {}
        for pattern, naming, reading in (
            ("sys/class/thermal/thermal_zone*", "type", "temp"),
            ("sys/class/hwmon/hwmon*", "name", "temp*_input"),
        ):
            for folder in glob.glob(self._path(pattern)):
                name = _line(os.path.join(folder, naming))
                for file in glob.glob(os.path.join(folder, reading)) if name else []:
                    with contextlib.suppress(ValueError):
                        degrees = float(_line(file) or "") / 1e3
                        highest[str(name)] = max(degrees, highest.get(str(name), degrees))
        return highest or None

    def _battery(self) -> dict[str, str | None] | None:
        """Charge in per cent and state of the first battery."""
        for folder in sorted(glob.glob(self._path("sys/class/power_supply/*"))):
            if _line(os.path.join(folder, "type")) == "Battery":
                return {name: _line(os.path.join(folder, name)) for name in ("capacity", "status")}
        return None

    def _steal_s(self) -> float | None:
        """Seconds that the hypervisor gave to other guests, summed over processors."""
        total = next((line.split() for line in lines_of(self._path("proc/stat")) if line.startswith("cpu ")), [])
        return int(total[8]) / os.sysconf("SC_CLK_TCK") if len(total) > 8 else None

    def _board(self) -> str:
        """Model of the board if the processor has no name, or implementer and part number of the processor."""
        model = self._line("proc/device-tree/model")
        parts = [self._processor_field(name) for name in ("CPU implementer", "CPU part")]
        return model.strip("\0 ") if model else " ".join(filter(None, parts))

    def _processor_field(self, name: str) -> str:
        return self._fields("proc/cpuinfo").get(name, "")

    def _fields(self, file: str) -> dict[str, str]:
        """First value of each `name: value` line."""
        fields: dict[str, str] = {}
        for line in lines_of(self._path(file)):
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name.strip(), value.strip())
        return fields

    def _line(self, file: str) -> str | None:
        return _line(self._path(file))

    def _path(self, file: str) -> str:
        return os.path.join(self._root, file)


def processors() -> list[int]:
    """Processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(chosen: Sequence[int]) -> None:
    """Restricts this process to the given processors, where supported."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)


def timer_step_s() -> float:
    """Smallest clock difference in 1,000 readings, seconds."""
    readings = [time.perf_counter() for _ in range(1000)]
    following = itertools.islice(readings, 1, None)
    steps = [later - earlier for earlier, later in zip(readings, following) if later > earlier]
    return min(steps, default=time.get_clock_info("perf_counter").resolution)


def _switches() -> dict[str, int] | None:
    """Number of context switches of this process, voluntary and involuntary."""
    try:
        import resource
    except ImportError:
        return None
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"voluntary": used.ru_nvcsw, "involuntary": used.ru_nivcsw}


def _versions() -> dict[str, str]:
    from importlib import metadata

    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def _all_bytes() -> int:
    """Total memory of the machine; the largest integer size if not available."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def _line(file: str) -> str | None:
    return next(iter(lines_of(file)), None)


def lines_of(file: str) -> list[str]:
    """Lines of a file of the system; none if it cannot be read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read().splitlines()
    except OSError:
        return []
