from typing import Annotated

import typer

from adaptare.arguments import DEFAULT_STORE, JsonOption
from adaptare.console import Console, command


@command
def store(
    place: Annotated[str, typer.Argument(metavar="STORE", help="A file or database URL.")] = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> int:
    """Contents of a store: devices, models, phases and modes, with the number of measurements of each."""
    from adaptare.profiler import Store
    from adaptare.views import store as view
    from adaptare.workflows.profiling.contents import contents_of

    return Console(as_json=as_json).show(contents_of(Store(place, create=False)), view)
