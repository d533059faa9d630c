from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import DEFAULT_STORE
from adaptare.console import command, console


@command
def store(
    place: Annotated[str, typer.Argument(metavar="STORE", help="A file or database URL.")] = DEFAULT_STORE,
    salvage: Annotated[
        Path | None,
        typer.Option(
            "--salvage",
            metavar="NEW",
            help="Copy what can be read of a damaged store into this new file.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Contents of a store: measurements by device, model and mode."""
    from adaptare.profiler import Store
    from adaptare.profiler.store import salvage as rescue
    from adaptare.views import store as view
    from adaptare.workflows.reporting.store_report import contents_of

    if salvage is not None:
        return console().show(rescue(place, salvage), view.salvage_sections)
    return console().show(contents_of(Store(place, create=False), feedback=console().feedback), view.sections)
