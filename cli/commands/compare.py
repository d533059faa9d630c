from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import DEFAULT_BAND, BandOption
from adaptare.console import command, console, requested


@command
def compare(
    store: Annotated[str, typer.Argument(metavar="STORE", help="File or URL with the measurements to compare with.")],
    other: Annotated[
        str | None, typer.Argument(metavar="OTHER", help="What is compared.", show_default="the same store")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="As it was spelled, or its hash.", show_default="the only one")
    ] = None,
    other_device: Annotated[
        str | None, typer.Option("--other-device", help="In OTHER; may be unlike the first.", show_default="the same")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", help="A PEFT folder: only that adapter.", show_default="all")
    ] = None,
    other_adapter: Annotated[
        Path | None, typer.Option("--other-adapter", help="In OTHER; compared with the first.", show_default="the same")
    ] = None,
    band: BandOption = DEFAULT_BAND,
) -> int:
    """Compares two stores, devices or adapters.

    Exit code 1 if the second is slower by more than the band for certain. On one device, overheads over the base are
    compared, which are reproducible; on two devices, latencies.
    """
    from adaptare.core import InputError
    from adaptare.profiler import Store
    from adaptare.views import compare as view
    from adaptare.workflows.comparison import compare_stores

    if other_adapter and not adapter:
        raise InputError(f"--other-adapter {other_adapter} is compared with --adapter; name that too")
    if not (other or other_device or other_adapter):
        raise InputError("there is nothing to compare with; name another store, --other-device or --other-adapter")
    here, there = Store(store, create=False), Store(other or store, create=False)
    report = requested(compare_stores, here=here, there=there, feedback=console().feedback)
    return console().show(report, view.sections, view.exit_code)
