from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adaptare.core.table import Column, Table
from adaptare.core.units import megabytes
from adaptare.devices import DeviceInfo
from adaptare.predictor import FittedPredictor
from adaptare.workflows.fit.fitting import FitResult
from adaptare.workflows.overhead.overhead import OverheadReport
from adaptare.workflows.overhead.side_by_side import SideBySide
from adaptare.workflows.reporting.inputs import Result
from adaptare.workflows.reporting.store_report import Sessions, StoredDevice, StoreReport


def devices_of(results: Sequence[Result]) -> list[StoredDevice]:
    """Devices of all results, each once; with the state of its machine if a store has it."""
    found: dict[DeviceInfo, StoredDevice] = {}
    for result in results:
        for device in _devices(result):
            if device.environment or device.info not in found:
                found[device.info] = device
    return list(found.values())


def _devices(result: Result | None) -> Iterator[StoredDevice]:
    if isinstance(result, SideBySide):
        for each in result.devices:
            yield from _devices(each.report)
    elif isinstance(result, StoreReport):
        yield from result.sessions.devices
    elif isinstance(result, Sessions):
        yield from result.devices
    elif isinstance(result, OverheadReport) and result.provenance:
        yield StoredDevice(result.provenance.device, {})
    elif isinstance(result, FitResult | FittedPredictor):
        yield StoredDevice(result.device, {})


def machine_table(devices: Sequence[StoredDevice]) -> Table[str]:
    """Identity of devices, and the state of their machines before the latest session; a column for each device."""
    facts = [dict(_facts(device)) for device in devices]
    names = list(dict.fromkeys(name for each in facts for name in each))

    def column(place: int) -> Column[str]:
        return Column(devices[place].info.device, lambda name: facts[place].get(name, ""), folds=True)

    columns = (Column[str]("", str), *map(column, range(len(devices))))
    return Table("Devices, and the state of their machines before the latest session", columns, names)


def _facts(device: StoredDevice) -> Iterator[tuple[str, str]]:
    info, state = device.info, _part(device.environment, "before")
    yield "hardware", info.hardware
    yield "runtime", info.runtime
    yield "threads", str(info.threads)
    yield "options", ", ".join(info.options)
    yield "last-level cache, MB", megabytes(info.cache_bytes)
    yield "hash of the identity", info.hash
    for name, value in _state(state):
        if value not in (None, "", [], {}):
            yield name, str(value)


def _state(state: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Facts that an agent may report; one on another system has others, or none."""
    hertz, free, loads = _part(state, "frequency_hz").get("current"), state.get("free_bytes"), state.get("load_average")
    yield "state at", state.get("at")
    yield "system", state.get("system")
    yield "Python", state.get("python")
    yield "packages", ", ".join(f"{name} {version}" for name, version in _part(state, "packages").items())
    yield "physical cores", state.get("physical_cores")
    yield "logical processors", state.get("logical_processors")
    yield "processors that a container may use", state.get("processor_quota")
    yield "virtualisation", state.get("virtualisation")
    yield "clock frequency, MHz", f"{hertz / 1e6:.0f}" if isinstance(hertz, int | float) else None
    yield "frequency governor", state.get("governor")
    yield "temperature, °C", state.get("temperature_c")
    yield "battery", state.get("battery")
    yield "load average", ", ".join(f"{load:.2f}" for load in loads) if isinstance(loads, list | tuple) else None
    yield "free memory, MB", megabytes(free) if isinstance(free, int | float) else None


def _part(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = content.get(name)
    return part if isinstance(part, Mapping) else {}
