"""`adaptare devices`."""

from typing import Annotated

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def devices(
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DEVICE]...",
            help="For example ssh://user@host/ort-cpu.",
            show_default="every device of this machine",
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what adaptare keeps on the named remote devices.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Devices that can be reached from here, with the facts that their workers tell, and why the others cannot."""
    from adaptare.profiler.campaigns.machines import cleaned, machines

    return Console(as_json=as_json).show((cleaned if clean else machines)(named or []))
