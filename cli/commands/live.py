import json
from typing import Annotated

import typer

from adaptare.arguments import DEFAULT_STORE, JsonOption
from adaptare.console import Console, command


@command
def serve(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT...", help="Stores, or folders of tune and demo; see report.", show_default=DEFAULT_STORE
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address of this machine to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: any free one.", min=0, max=65535)] = 0,
    as_json: JsonOption = False,
) -> int:
    """The page of `report`, refreshed while a campaign runs, until Ctrl-C."""
    from adaptare.live_page import serve_live

    console = Console(as_json=as_json)

    def started(url: str) -> None:
        typer.echo(json.dumps({"url": url}) if as_json else f"open in a browser: {url}")
        console.note("it is refreshed when the inputs change; Ctrl-C ends this")

    serve_live(inputs or [DEFAULT_STORE], host=host, port=port, started=started)
    return 0
