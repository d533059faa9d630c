"""`adaptare store`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptare.arguments import DEFAULT_STORE, JsonOption
from adaptare.console import COMPOSED, Console, command

if TYPE_CHECKING:
    from adaptare.profiler import Measurement


@command
def store(
    place: Annotated[str, typer.Argument(metavar="STORE", help="A file or database URL.")] = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """What a store holds: devices, models, phases and modes, with how many measurements there are of each."""
    from adaptare.comparison import named
    from adaptare.profiler import Store

    console = Console(as_json=as_json)
    held = Store(place, create=False)
    rows = contents(held.measurements())
    for device in dict.fromkeys(each["device"] for each in rows):
        console.table(
            named(device),
            ["workloads", "model", "adapters", "rows", "incomplete", "sessions", "last"],
            [
                [
                    each["workload"] + ", dora" * (each["kind"] == "dora") + COMPOSED * (each["origin"] == "composed"),
                    ", ".join(each["model"].split(", ")[:2]),
                    *(str(each[name]) for name in ("adapters", "rows", "incomplete", "sessions")),
                    each["last"][:10],
                ]
                for each in rows
                if each["device"] == device
            ],
        )
    console.say(f"{sum(each['rows'] for each in rows)} measurements in {held.location}")
    told = [{**each, "device": each["device"].device} for each in rows]
    console.result({"store": held.location, "contents": told})


def contents(measurements: "Sequence[Measurement]") -> list[dict[str, Any]]:
    """What is the same but for the adapter, counted, in the order of what was measured first."""
    from adaptare.profiler import Configuration, device_hash

    kinds: dict[Any, list[Measurement]] = {}
    for each in measurements:
        bare = each.workload.with_configuration(Configuration(kind=each.workload.configuration.kind))
        kinds.setdefault((each.device, bare, each.workload.graph, each.origin), []).append(each)
    return [
        {
            "device": device,
            "device_hash": device_hash(device),
            "workload": some[0].workload.describe(),
            "kind": bare.configuration.kind,
            "model": bare.shape.describe(),
            "origin": origin,
            "adapters": len({each.workload.hash for each in some}),
            "rows": len(some),
            "incomplete": sum(not each.complete for each in some),
            "sessions": len({each.session for each in some}),
            "first": min(each.taken_at for each in some),
            "last": max(each.taken_at for each in some),
        }
        for (device, bare, _, origin), some in kinds.items()
    ]
