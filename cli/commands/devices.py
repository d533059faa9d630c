from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from adaptare.arguments import JsonOption
from adaptare.commands.agent import agent
from adaptare.completion import registered
from adaptare.console import Console, command


class DevicesGroup(TyperGroup):
    """Takes words that name none of its commands as arguments of `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `list` in front of them."""
        known = bool(args) and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(ctx, args if known else ["list", *args])


devices = typer.Typer(
    name="devices",
    cls=DevicesGroup,
    rich_markup_mode=None,
    help="Devices that can be reached from here: `adaptare devices [DEVICE]...` lists them; see `list --help`.",
)
devices.command(epilog="Example: adaptare devices agent --build --target aarch64-linux")(agent)


@devices.command("list", epilog="Example: adaptare devices list ssh://user@board/ort-cpu torch-cpu")
@command
def list_devices(
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[DEVICE]...",
            help="For example ssh://user@host/ort-cpu.",
            show_default="every device of this machine",
            autocompletion=registered("adaptare.devices"),
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what adaptare keeps on the named remote devices.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Devices that can be reached from here, with the facts that their workers report, and why others cannot."""
    from adaptare.views import cleaned as view_of_cleaned
    from adaptare.views import devices as view
    from adaptare.workflows.devices import cleaned, machines

    console = Console(as_json=as_json)
    if clean:
        return console.show(cleaned(named or []), view_of_cleaned)
    return console.show(machines(named or [], feedback=console.feedback), view)
