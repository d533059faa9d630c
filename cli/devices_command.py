"""`adaptare devices`."""

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command
from adaptare.serve_command import serve

devices_app = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
devices_app.command()(serve)


@devices_app.callback()
@command
def devices(context: typer.Context, as_json: JsonOption = False) -> int:
    """Devices that can be reached from here, with the facts that their workers tell, and why the others cannot."""
    if context.invoked_subcommand:
        return 0
    from adaptare.devices import reachable
    from adaptare.profiler.campaigns.machines import Machines

    return Console(as_json=as_json).show(Machines(reachable()))
