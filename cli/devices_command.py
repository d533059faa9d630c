"""`adaptare devices`."""

from collections.abc import Mapping
from typing import Any

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def devices(as_json: JsonOption = False) -> None:
    """What can be reached from here, what it says of itself, and why the others cannot."""
    from adaptare.devices import reachable
    from adaptare.profiler import device_to_json, environment

    console = Console(as_json=as_json)
    found, said = reachable(), environment()
    rows = [
        [each.name, "yes", each.info.hardware, each.info.runtime, str(each.info.threads)]
        if each.info
        else [each.name, "no", each.problem, "", ""]
        for each in found
    ]
    console.table("Devices", ["device", "reachable", "hardware", "runtime", "threads"], rows)
    console.table("This machine", ["", "what it says of itself"], _machine(said))
    console.result(
        {
            "environment": said,
            "devices": [
                {
                    "name": each.name,
                    "reachable": each.info is not None,
                    "info": device_to_json(each.info) if each.info else None,
                    "problem": each.problem,
                }
                for each in found
            ],
        }
    )


def _machine(said: Mapping[str, Any]) -> list[list[str]]:
    values = {
        "processor": said["processor"],
        "physical cores": said["physical_cores"],
        "processors allowed": f"{len(said['allowed_processors'])} of {said['logical_processors']}",
        "virtualisation": said["virtualisation"],
        "governor": said["governor"],
        "frequency, Hz": said["frequency_hz"],
        "clock source": said["clock_source"],
        "pressure on processors": said["pressure"]["cpu"],
        "pressure on memory": said["pressure"]["memory"],
        "temperature, °C": said["temperature_c"],
        "energy counter, J": said["energy_j"],
    }
    return [[name, _words(value)] for name, value in values.items()]


def _words(value: object) -> str:
    if value is None:
        return "not available"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(each)}" for name, each in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
