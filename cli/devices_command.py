"""`adaptare devices`."""

from adaptare.arguments import JsonOption
from adaptare.console import WORLD_FAILED, Console, command


@command
def devices(as_json: JsonOption = False) -> None:
    """What can be reached from here, what it says of itself, and why the others cannot."""
    import typer

    from adaptare.devices import reachable
    from adaptare.profiler import device_to_json

    console = Console(as_json=as_json)
    found = reachable()
    rows = [
        [each.name, "yes", each.info.hardware, each.info.runtime, str(each.info.threads)]
        if each.info
        else [each.name, "no", each.problem, "", ""]
        for each in found
    ]
    console.table("Devices", ["device", "reachable", "hardware", "runtime", "threads"], rows)
    console.result(
        {
            "devices": [
                {
                    "name": each.name,
                    "reachable": each.info is not None,
                    "info": device_to_json(each.info) if each.info else None,
                    "problem": each.problem,
                }
                for each in found
            ]
        }
    )
    if not any(each.info for each in found):
        raise typer.Exit(WORLD_FAILED)
