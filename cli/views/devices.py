from collections.abc import Iterator, Mapping
from typing import Final

from adaptare.core.table import Column, Note, Section, Table
from adaptare.devices import WorkerInfo
from adaptare.devices.native import BundleFile
from adaptare.exit_codes import ExitCode
from adaptare.workflows.devices import AgentBundles, Machines, Reach

# Facts about machines to display; the environment has more.
SHOWN: Final = {
    "virtualisation": "virtualisation",
    "processor_quota": "processors that a container may use",
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
BUNDLE: Final[tuple[Column[BundleFile], ...]] = (
    Column("file", lambda file: file.name),
    Column("bytes", lambda file: f"{file.bytes:,}"),
    Column("from", lambda file: file.origin, folds=True),
    Column("licence", lambda file: file.licence, 1, folds=True),
)


def sections(machines: Machines) -> Iterator[Section]:
    """All devices, and the facts of each machine as its first device reports them, as some vary over time."""
    yield Table("Devices", COLUMNS, machines.devices)
    for device in machines.devices:
        if device.problem:
            yield f"{device.name} cannot be used: {device.problem}"
    known: dict[tuple[object, ...], list[tuple[str, WorkerInfo]]] = {}
    for device in machines.devices:
        if device.worker and device.worker.environment:
            key = (device.worker.hardware, device.worker.processors, device.worker.cache_bytes)
            known.setdefault(key, []).append((device.name, device.worker))
    for same in known.values():
        yield Table(f"The machine of {', '.join(name for name, _ in same)}", FACTS, _facts(same[0][1]))
    if here := [device.name for device in machines.devices if device.info]:
        yield Note(f"next: adaptare overhead MODEL --device {here[0]}")


def exit_code(machines: Machines) -> ExitCode:
    """3 if one of the named devices cannot be reached."""
    lost = machines.named and not all(device.info for device in machines.devices)
    return ExitCode.WORLD_FAILED if lost else ExitCode.DONE


def cleaned_sections(cleaned: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """A line for each device."""
    for device, freed in cleaned["freed_bytes"].items():
        yield f"{device}: {freed / 2**20:.2f} MiB freed"


def bundle_sections(result: AgentBundles) -> Iterator[Section]:
    """The files of each bundle, and what to do next."""
    for bundle in result.bundles:
        yield Table(f"Agent for {bundle.target} with {bundle.runtime}: {bundle.folder}", BUNDLE, bundle.files)
        size = sum(file.bytes for file in bundle.files) / 2**20
        needs = "no library of the device" if bundle.loader else "the device's C library (glibc 2.28 or later)"
        yield f"{size:.1f} MiB; needs {needs}"
    if result.is_new:
        yield "Next: adaptare devices adb:SERIAL/ort-native, or ssh://user@host/ort-native"
    if not result.bundles:
        yield f"No bundle for {result.target}; make one with: adaptare devices agent --build --target {result.target}"


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
