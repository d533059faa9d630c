"""Facts about the machine of a device, from the raw text and counters that its agent sends; `None` if not available.

This is the only reader of system files for agents in any language. It opens nothing itself: an agent answers
`EVERYTHING` or `ENERGY` with the text of the files that match, and the device is described from that alone.
"""

import json
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from adaptare.core import InputError
from adaptare.devices.agent.machine import raw_facts
from adaptare.devices.contracts import USUAL_CACHE_BYTES

MOST_CACHES = 10
CPU = "sys/devices/system/cpu"
FREQUENCY = f"{CPU}/cpu0/cpufreq"
# First lines of files, as facts of the environment; `boot` is equal for all on one machine since its start.
LINES = {
    "boot": "proc/sys/kernel/random/boot_id",
    "governor": f"{FREQUENCY}/scaling_governor",
    "clock_source": "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "large_pages": "sys/kernel/mm/transparent_hugepage/enabled",
}
CLUSTER_FILES = ("related_cpus", "scaling_governor", "scaling_cur_freq", "scaling_max_freq", "cpuinfo_max_freq")
ENERGY_FILES = ("sys/class/powercap/intel-rapl:*/name", "sys/class/powercap/intel-rapl:*/energy_uj")
# Time that a container may compute in each period: both in one line, or each in a file of its own.
QUOTA_FILES = ("sys/fs/cgroup/cpu.max", *(f"sys/fs/cgroup/cpu/cpu.cfs_{name}_us" for name in ("quota", "period")))
FILES = (
    *(f"proc/{name}" for name in ("cpuinfo", "meminfo", "stat", "pressure/cpu", "pressure/memory")),
    *("proc/device-tree/model", "sys/hypervisor/type", *LINES.values()),
    *("sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name"),
    *(f"{FREQUENCY}/{name}" for name in ("scaling_cur_freq", "cpuinfo_min_freq", "cpuinfo_max_freq")),
    *(f"{CPU}/cpufreq/policy*/{name}" for name in CLUSTER_FILES),
    f"{CPU}/cpu[0-9]*/topology/thread_siblings_list",
    *(f"{CPU}/cpu[0-9]*/cache/index*/{name}" for name in ("size", "shared_cpu_list")),
    *("sys/class/thermal/thermal_zone*/type", "sys/class/thermal/thermal_zone*/temp"),
    *("sys/class/hwmon/hwmon*/name", "sys/class/hwmon/hwmon*/temp*_input"),
    *(f"sys/class/power_supply/*/{name}" for name in ("type", "capacity", "status")),
    *(f"sys/fs/cgroup/memory.{name}" for name in ("max", "current", "stat")),
    *QUOTA_FILES,
    *ENERGY_FILES,
)
# Android hides the files of the battery, and reports it by a program.
BATTERY_PROGRAM = "system/bin/dumpsys battery"
BATTERY_WORDS = {"1": "Unknown", "2": "Charging", "3": "Discharging", "4": "Not charging", "5": "Full"}
# Environment variable by which a transport passes the name of the device on.
NAMED = "ADAPTARE_HARDWARE"
# Beginnings of environment variables read by allocators, thread pools and runtimes.
POOLS = ("GOMP_", "KMP_", "MKL_", "OMP_", "OPENBLAS_")
VARIABLES = (*POOLS, "CUDA_", "GLIBC_", "LD_", "MALLOC_", "ORT_", "PYTORCH_", "TORCH_")
PACKAGES = ("numpy", "onnxruntime", "peft", "torch", "transformers")
BOUNDS = {"file_bytes": 2**18, "total_bytes": 2**22}
# Contents of the two requests for facts.
EVERYTHING: Mapping[str, Any] = BOUNDS | {
    "files": FILES,
    "programs": (BATTERY_PROGRAM,),
    "variables": (*VARIABLES, NAMED),
    "packages": PACKAGES,
}
ENERGY: Mapping[str, Any] = BOUNDS | {"files": ENERGY_FILES, "programs": (), "variables": (), "packages": ()}


@dataclass(frozen=True)
class MachineFacts:
    """The machine of a device.

    Args:
        raw: Reply of an agent: `files` (path -> text), `variables`, `packages`, counters, and names of the system. A
            page sends the name of its `hardware`, and what else it `known`s, as parts of the environment.
    """

    raw: Mapping[str, Any]

    def checked(self) -> "MachineFacts":
        """The same facts, each of which could be read. Raises errors of Python's own types if one cannot be."""
        if not all(isinstance(number, int) and number >= 0 for number in self.processors):
            raise ValueError(f"processors {self.processors!r}")
        json.dumps([self.environment(), self.hardware, self.cache_bytes, self.pinned(1)], allow_nan=False)
        return self

    @property
    def processors(self) -> tuple[int, ...]:
        """Processors that the agent may run on; empty if unknown."""
        return tuple(self.raw.get("processors", ()))

    def on(self, processors: Sequence[int]) -> "MachineFacts":
        """The machine of an agent that is restricted to these processors."""
        return replace(self, raw={**self.raw, "processors": list(processors)})

    def masked(self, cores: str) -> "MachineFacts":
        """The machine restricted to processors of a hexadecimal mask. Raises `InputError` if it has none of them."""
        chosen = [number for number in self.processors if int(cores, 16) >> number & 1]
        if not chosen:
            raise InputError(
                f"this device does not permit the processors of the mask {cores}; it has "
                f"{self.raw.get('logical_processors')}"
            )
        return self.on(chosen)

    @property
    def hardware(self) -> str:
        """Model of the device, processor or board, and architecture."""
        if "hardware" in self.raw:
            return str(self.raw["hardware"])
        named = self.raw.get("variables", {}).get(NAMED) or self._processor_field("model name") or self._board()
        return f"{named or self.raw.get('processor') or 'unknown processor'} ({self.raw.get('architecture')})"

    def _board(self) -> str:
        """Model of the board if the processor has no name, or implementer and part number of the processor."""
        model = self._line("proc/device-tree/model")
        parts = [self._processor_field(name) for name in ("CPU implementer", "CPU part")]
        return model.strip("\0 ") if model else " ".join(filter(None, parts))

    @property
    def physical_cores(self) -> int:
        """Cores available to the agent, each counted once for all its hardware threads."""
        return len(set(self._cores().values()))

    def pinned(self, threads: int) -> list[int]:
        """Processors for pinned threads: the last ones, as the first tends to serve interrupts, and one per core.

        With more threads than cores, the others are used too.
        """
        cores = self._cores()
        alone = {core: processor for processor, core in cores.items()}.values()
        return [*(processor for processor in cores if processor not in alone), *sorted(alone)][-threads:]

    def _cores(self) -> dict[int, str]:
        """Processor -> core, ascending; one core each if the topology is not available."""
        topology = f"{CPU}/cpu{{}}/topology/thread_siblings_list"
        return {number: self._line(topology.format(number)) or str(number) for number in self.processors}

    @property
    def cache_bytes(self) -> int:
        """Size of the last-level caches of the agent's processors; a typical size if not available.

        Each group of processors with a separate cache uses it independently, so the sizes are added.
        """
        largest: dict[str, int] = {}
        for processor in self.processors:
            caches = {}
            for index in range(MOST_CACHES):
                cache = f"{CPU}/cpu{processor}/cache/index{index}"
                size, shared = self._line(f"{cache}/size"), self._line(f"{cache}/shared_cpu_list")
                if size and shared and size.endswith("K"):
                    caches[1024 * int(size[:-1])] = shared
            if caches:
                largest[caches[max(caches)]] = max(caches)
        return sum(largest.values()) or USUAL_CACHE_BYTES

    @property
    def free_bytes(self) -> int:
        """Memory available to a new program; total memory if only that is known.

        A control group, such as that of a container, limits it; the page cache is reclaimed on demand and counts.
        """
        available = self._fields("proc/meminfo").get("MemAvailable")
        if not available:
            return int(self.raw.get("memory_bytes") or sys.maxsize)
        free = 1024 * int(available.split()[0])
        limit, used = (self._line(f"sys/fs/cgroup/memory.{name}") or "" for name in ("max", "current"))
        if not (limit.isdigit() and used.isdigit()):  # none, or no limit
            return free
        words = (line.split() for line in self._lines("sys/fs/cgroup/memory.stat"))
        cached = sum(int(word[1]) for word in words if word[0] in ("inactive_file", "active_file"))
        return min(free, int(limit), max(0, int(limit) - int(used) + cached))

    @property
    def energy_j(self) -> float | None:
        """Joules counted by all processor packages; each counter restarts from 0 after some hours.

        Other zones are parts of a package, or the whole machine including its packages.
        """
        zones = self._folders(ENERGY_FILES[0].rpartition("/")[0], "name")
        named = [zone for zone in zones if (self._line(f"{zone}/name") or "").startswith("package")]
        counters = [line for zone in named if (line := self._line(f"{zone}/energy_uj")) and line.isdigit()]
        return sum(map(int, counters)) / 1e6 if counters else None

    def environment(self) -> dict[str, Any]:
        """Snapshot of everything that may change latency and is not part of the device's identity.

        Counters (`steal_s`, `energy_j`, `switches`) start at an arbitrary time; only differences of snapshots are
        meaningful.
        """
        raw, variables = self.raw, dict(self.raw.get("variables", {}))
        variables.pop(NAMED, None)
        parsed = {
            "at": datetime.fromtimestamp(raw.get("at_s", 0), UTC).isoformat(timespec="seconds"),
            **{name: self._line(file) for name, file in LINES.items()},
            "system": f"{raw.get('system')} {raw.get('release')} ({raw.get('architecture')})",
            "python": raw.get("python"),
            "packages": raw.get("packages", {}),
            "variables": variables,
            "physical_cores": self.physical_cores,
            "logical_processors": raw.get("logical_processors"),
            "allowed_processors": list(self.processors),
            "processor_quota": self._processor_quota(),
            "virtualisation": self._virtualisation(),
            "frequency_hz": self._frequency_hz(),
            "clusters": self._clusters(),
            "load_average": raw.get("load_average"),
            "pressure": {name: self._line(f"proc/pressure/{name}") for name in ("cpu", "memory")},
            "steal_s": self._steal_s(),
            "switches": raw.get("switches"),
            "free_bytes": self.free_bytes,
            "temperature_c": self._temperature_c(),
            "battery": self._battery(),
            "energy_j": self.energy_j,
        }
        return {**parsed, **raw.get("known", {})}

    def _virtualisation(self) -> str | None:
        """Name of the hypervisor; only x86 processors report its absence."""
        named, flags = self._line("sys/hypervisor/type"), self._processor_field("flags")
        if named or not flags:
            return named
        if "hypervisor" not in flags.split():
            return "none"
        product = [self._line(f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
        return " ".join(filter(None, product)) or "unnamed hypervisor"

    def _processor_quota(self) -> float | None:
        """Number of processors whose time a container may use before it is stopped for a while; `None`: no limit."""
        both, *apart = (self._line(file) or "" for file in QUOTA_FILES)
        numbers = [int(number) for number in (both.split() or apart) if number.isdigit()]
        return numbers[0] / numbers[1] if len(numbers) == 2 and all(numbers) else None

    def _frequency_hz(self) -> dict[str, float | None] | None:
        """Mean over the processors at present, and the limits of the first."""
        now = [float(line.split(":")[1]) for line in self._lines("proc/cpuinfo") if line.startswith("cpu MHz")]
        files = {"current": "scaling_cur_freq", "min": "cpuinfo_min_freq", "max": "cpuinfo_max_freq"}
        hertz = {name: self._hertz(f"{FREQUENCY}/{file}") for name, file in files.items()}
        if now:
            hertz["current"] = 1e6 * sum(now) / len(now)
        return hertz if any(hertz.values()) else None

    def _clusters(self) -> list[dict[str, Any]] | None:
        """Groups of processors that share a clock, with its present, allowed and highest frequency."""
        clusters = [
            {
                "processors": self._line(f"{folder}/related_cpus"),
                "governor": self._line(f"{folder}/scaling_governor"),
                "current_hz": self._hertz(f"{folder}/scaling_cur_freq"),
                "allowed_hz": self._hertz(f"{folder}/scaling_max_freq"),
                "max_hz": self._hertz(f"{folder}/cpuinfo_max_freq"),
            }
            for folder in self._folders(f"{CPU}/cpufreq/policy*", *CLUSTER_FILES)
        ]
        return clusters or None

    def _temperature_c(self) -> dict[str, float] | None:
        """Maximum over the sensors of each kind."""
        highest: dict[str, float] = {}
        for path in self._files(r"sys/class/(thermal/thermal_zone|hwmon/hwmon)[^/]*/temp(\d*_input)?"):
            folder, reading = path.rpartition("/")[0], self._line(path) or ""
            name = self._line(f"{folder}/type" if "thermal_zone" in folder else f"{folder}/name")
            if name and re.fullmatch(r"-?\d+", reading):
                degrees = float(reading) / 1e3
                highest[name] = max(degrees, highest.get(name, degrees))
        return highest or None

    def _battery(self) -> dict[str, str | None] | None:
        """Charge in per cent and state of the first battery."""
        for folder in self._folders("sys/class/power_supply/*", "type"):
            if self._line(f"{folder}/type") == "Battery":
                return {name: self._line(f"{folder}/{name}") for name in ("capacity", "status")}
        printed = self._fields(BATTERY_PROGRAM)
        battery = {"capacity": printed.get("level"), "status": BATTERY_WORDS.get(printed.get("status", ""))}
        return battery if any(battery.values()) else None

    def _steal_s(self) -> float | None:
        """Seconds that the hypervisor gave to other guests, summed over processors."""
        total = next((line.split() for line in self._lines("proc/stat") if line.startswith("cpu ")), [])
        return int(total[8]) / self.raw["ticks_s"] if len(total) > 8 else None

    def _hertz(self, path: str) -> float | None:
        """Frequency from a file in kilohertz."""
        line = self._line(path) or ""
        return 1e3 * float(line) if line.isdigit() else None

    def _processor_field(self, name: str) -> str:
        return self._fields("proc/cpuinfo").get(name, "")

    def _fields(self, path: str) -> dict[str, str]:
        """First value of each `name: value` line."""
        fields: dict[str, str] = {}
        for line in self._lines(path):
            name, colon, value = line.partition(":")
            if colon:
                fields.setdefault(name.strip(), value.strip())
        return fields

    def _folders(self, pattern: str, *names: str) -> Collection[str]:
        """Folders that match a pattern and have one of the files, sorted."""
        expression = re.escape(pattern).replace(r"\*", "[^/]*") + f"/({'|'.join(names)})"
        return sorted({path.rpartition("/")[0] for path in self._files(expression)})

    def _files(self, expression: str) -> Iterator[str]:
        return (path for path in self.raw.get("files", {}) if re.fullmatch(expression, path))

    def _line(self, path: str) -> str | None:
        return next(iter(self._lines(path)), None)

    def _lines(self, path: str) -> list[str]:
        text: str = self.raw.get("files", {}).get(path, "")
        return text.splitlines()


def this_machine() -> MachineFacts:
    """The machine of this process, as its agents report it."""
    return MachineFacts(raw_facts(EVERYTHING))
