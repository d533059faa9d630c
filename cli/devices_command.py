"""`adaptare devices`."""

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def devices(as_json: JsonOption = False) -> int:
    """Devices that can be reached from here, with the facts that their workers tell, and why the others cannot."""
    from adaptare.devices import reachable
    from adaptare.profiler.campaigns.machines import Machines

    return Console(as_json=as_json).show(Machines(reachable()))
