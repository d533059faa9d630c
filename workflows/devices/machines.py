"""Reachable devices, facts about their machines, and removal of the files kept there."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from adaptare.core import InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.devices import WorkerInfo
from adaptare.devices.registry import Reach, clean, reachable
from adaptare.workflows.target import read_spelling

# Facts about machines to display; the environment has more.
SHOWN: Final = {
    "virtualisation": "virtualisation",
    "governor": "governor",
    "frequency_hz": "frequency, Hz",
    "clock_source": "clock source",
    "large_pages": "large pages",
    "variables": "environment variables",
    "load_average": "load average",
    "pressure": "pressure",
    "temperature_c": "temperature, °C",
    "battery": "battery",
}
COLUMNS: Final[tuple[Column[Reach], ...]] = (
    Column("device", lambda row: row.name),
    Column("reachable", lambda row: "yes" if row.info else "no"),
    Column("hardware", lambda row: row.info.hardware if row.info else "", folds=True),
    Column("runtime", lambda row: row.info.runtime if row.info else "", folds=True),
    Column("threads", lambda row: str(row.info.threads) if row.info else "", 1),
    Column("options", lambda row: ", ".join(row.info.options) if row.info else "", 2, folds=True),
)
FACTS: Final[tuple[Column[tuple[str, str]], ...]] = (
    Column("fact", lambda fact: fact[0]),
    Column("value", lambda fact: fact[1], folds=True),
)


@dataclass(frozen=True)
class Machines:
    """Result with the known devices."""

    devices: Sequence[Reach]
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`. Machine facts are those of its first device, as some vary over time."""
        yield Table("Devices", COLUMNS, self.devices)
        for device in self.devices:
            if device.problem:
                yield f"{device.name} cannot be used: {device.problem}"
        machines: dict[tuple[object, ...], list[tuple[str, WorkerInfo]]] = {}
        for device in self.devices:
            if device.worker and device.worker.environment:
                key = (device.worker.hardware, device.worker.processors, device.worker.cache_bytes)
                machines.setdefault(key, []).append((device.name, device.worker))
        for same in machines.values():
            yield Table(f"The machine of {', '.join(name for name, _ in same)}", FACTS, _facts(same[0][1]))
        if here := [device.name for device in self.devices if device.info]:
            yield Note(f"next: adaptare overhead MODEL --device {here[0]}")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        devices = [
            {
                "name": device.name,
                "reachable": device.info is not None,
                "info": device.info.to_json() if device.info else None,
                "worker": asdict(device.worker) if device.worker else None,
                "problem": device.problem,
            }
            for device in self.devices
        ]
        return {"devices": devices}


def machines(named: Sequence[str] = ()) -> Machines:
    """Every device of this machine, or the named ones, of which each has to be reachable. Raises `InputError`."""
    devices = reachable([read_spelling(name).device for name in named])
    lost = bool(named) and not all(device.info for device in devices)
    return Machines(devices, ExitCode.WORLD_FAILED if lost else ExitCode.DONE)


@dataclass(frozen=True)
class Cleaned:
    """Result of removing files from devices.

    Args:
        freed_bytes: Device -> bytes freed there.
    """

    freed_bytes: Mapping[str, int]
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        for device, freed in self.freed_bytes.items():
            yield f"{device}: {freed / 2**20:.2f} MiB freed"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        return {"freed_bytes": dict(self.freed_bytes)}


def cleaned(named: Sequence[str]) -> Cleaned:
    """Removes adaptare's files from the named devices. Raises `InputError` and `DeviceError`."""
    if not named:
        raise InputError("--clean needs the devices to remove files from, for example ssh://user@host/ort-cpu")
    return Cleaned({name: clean(name) for name in named})


def _facts(worker: WorkerInfo) -> list[tuple[str, str]]:
    """Names and values of the facts to display."""
    return [
        ("processors", ", ".join(map(str, worker.processors)) or "not available"),
        ("last-level caches, MiB", f"{worker.cache_bytes / 2**20:g}"),
        ("free memory, GiB", f"{worker.free_bytes / 2**30:.0f}"),
        ("energy counter", "yes" if "energy" in worker.capabilities else "not available"),
        *((label, _words(worker.environment.get(name))) for name, label in SHOWN.items()),
    ]


def _words(value: object) -> str:
    if value is None or value == {}:
        return "not available"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_words(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
