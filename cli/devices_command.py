"""`adaptare devices`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from adaptare.arguments import JsonOption
from adaptare.console import Console, command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from adaptare.devices import Reach, WorkerInfo

# Facts about machines that are worth a line; the environment has more.
SHOWN = {
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


@command
def devices(as_json: JsonOption = False) -> None:
    """Devices that can be reached from here, with the facts that their workers tell, and why the others cannot."""
    from adaptare.devices import reachable
    from adaptare.profiler import device_to_json

    console = Console(as_json=as_json)
    found = reachable()
    rows = [
        [each.name, "yes", each.info.hardware, each.info.runtime, str(each.info.threads), ", ".join(each.info.options)]
        if each.info
        else [each.name, "no", each.problem, "", "", ""]
        for each in found
    ]
    console.table("Devices", ["device", "reachable", "hardware", "runtime", "threads", "options"], rows)
    for names, facts in _machines(found).items():
        console.table(f"The machine of {names}", ["fact", "value"], facts)
    console.result(
        {
            "devices": [
                {
                    "name": each.name,
                    "reachable": each.info is not None,
                    "info": device_to_json(each.info) if each.info else None,
                    "worker": asdict(each.told) if each.told else None,
                    "problem": each.problem,
                }
                for each in found
            ],
        }
    )


def _machines(found: "Sequence[Reach]") -> dict[str, list[list[str]]]:
    """Facts by the devices of one machine: those of the first, as some change from one moment to the next."""
    machines: dict[tuple[object, ...], list[Reach]] = {}
    for each in found:
        if each.told and each.told.environment:
            key = (each.told.hardware, each.told.processors, each.told.cache_bytes)
            machines.setdefault(key, []).append(each)
    return {", ".join(each.name for each in same): _facts(same[0].told) for same in machines.values() if same[0].told}


def _facts(told: "WorkerInfo") -> list[list[str]]:
    """Names and values."""
    return [
        ["processors", ", ".join(map(str, told.processors)) or "not available"],
        ["last-level caches, MiB", f"{told.cache_bytes / 2**20:g}"],
        ["free memory, GiB", f"{told.free_bytes / 2**30:.0f}"],
        ["energy counter", "yes" if "energy" in told.capabilities else "not available"],
        *([label, _words(told.environment.get(name))] for name, label in SHOWN.items()),
    ]


def _words(value: object) -> str:
    if value is None or value == {}:
        return "not available"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    if isinstance(value, list):
        return ", ".join(_words(each) for each in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
