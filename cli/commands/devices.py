from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from adaptare.arguments import registered
from adaptare.console import command, console, requested
from adaptare.core import InputError


class DevicesGroup(TyperGroup):
    """Takes words that name none of its commands as arguments of `list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts `list` in front of them."""
        known = bool(args) and (args[0] in self.commands or args[0] in ("--help", "-h"))
        return super().parse_args(ctx, args if known else ["list", *args])


devices = typer.Typer(
    name="devices",
    cls=DevicesGroup,
    rich_markup_mode=None,
    help="Devices that can be reached from here. `adaptare devices [DEVICE]...` lists them; see `list --help`.",
    epilog="Example: adaptare devices ort-cpu:int4",
)


@devices.command(epilog="Example: adaptare devices agent --build --target aarch64-linux")
@command
def agent(
    build: Annotated[
        bool, typer.Option("--build", help="Make a bundle; without it, those made before are listed.")
    ] = False,
    target: Annotated[
        str, typer.Option("--target", help="x86_64-linux or aarch64-linux.", show_default="that of this machine")
    ] = "",
    folder: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the bundle, for the device's option bundle=FOLDER.",
            show_default="one in the user's cache, where devices find it",
        ),
    ] = None,
    agent: Annotated[
        Path | None,
        typer.Option("--agent", help="The agent, compiled elsewhere.", show_default="it is compiled"),
    ] = None,
    headers: Annotated[
        Path | None,
        typer.Option(
            "--headers",
            help="Folder with onnxruntime_c_api.h.",
            show_default="where libonnxruntime-dev installs it",
        ),
    ] = None,
    runtime_library: Annotated[
        Path | None,
        typer.Option("--runtime-library", help="A libonnxruntime.so to take.", show_default="see --wheel"),
    ] = None,
    wheel: Annotated[
        Path | None,
        typer.Option(
            "--wheel",
            help="A wheel of onnxruntime to take the library from.",
            show_default="what is installed, else pip fetches one",
        ),
    ] = None,
    libraries: Annotated[
        list[str] | None,
        typer.Option(
            "--libraries",
            help="For devices without a C library of GNU, such as phones: a folder or Debian package with one, or "
            "'debian' to fetch packages.",
            show_default="those of the device",
        ),
    ] = None,
) -> int:
    """Compiles the agent in C for devices without Python.

    It is bundled with all that it needs to run.
    """
    from adaptare.devices.native import build_bundle, kept_for, target_named
    from adaptare.views import devices as view
    from adaptare.workflows.devices import AgentBundles

    chosen = target_named(target)
    if not build:
        given: dict[str, object] = {"-o": folder, "--agent": agent, "--headers": headers}
        given |= {"--runtime-library": runtime_library, "--wheel": wheel, "--libraries": libraries}
        if idle := [option for option, value in given.items() if value]:
            raise InputError(f"{idle[0]} is for a new bundle; add --build, or leave it out")
        return console().show(AgentBundles(chosen.name, kept_for(chosen)), view.bundle_sections)
    bundle = requested(build_bundle, target=chosen, libraries=libraries or [])
    return console().show(AgentBundles(chosen.name, [bundle], is_new=True), view.bundle_sections)


@devices.command("list", epilog="Example: adaptare devices list ssh://user@board/ort-cpu torch-cpu")
@command
def list_devices(
    named: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DEVICE",
            help="For example ssh://user@host/ort-cpu.",
            show_default="every device of this machine",
            autocompletion=registered("adaptare.devices"),
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Remove what adaptare keeps on the named remote devices.")
    ] = False,
) -> int:
    """Devices that can be reached from here.

    Lists the facts that their workers report, and why others cannot be reached.
    """
    from adaptare.views import devices as view
    from adaptare.workflows.devices import cleaned, machines

    if clean:
        return console().show({"freed_bytes": cleaned(named or [])}, view.cleaned_sections)
    return console().show(machines(named or [], feedback=console().feedback), view.sections, view.exit_code)
