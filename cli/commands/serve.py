import io
import json
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def serve(
    name: Annotated[str, typer.Option("--name", help="The device is browser:NAME.")] = "page",
    host: Annotated[str, typer.Option("--host", help="Address of this machine that the browser opens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: any free one.", min=0, max=65535)] = 0,
    runtime_files: Annotated[
        Path | None,
        typer.Option(
            "--runtime-files",
            help="Folder with an unpacked `npm pack onnxruntime-web`.",
            show_default="the page loads it from cdn.jsdelivr.net",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> int:
    """Serves a page; the browser that opens it, on a phone or here, is the device browser:NAME until this ends."""
    import segno

    from adaptare.devices.browser import serve_page

    console = Console(as_json=as_json)

    def started(url: str) -> None:
        if as_json:
            typer.echo(json.dumps({"device": f"browser:{name}", "url": url}))
            return
        drawn, forwarded = io.StringIO(), "tcp:{0.port} tcp:{0.port}".format(urlsplit(url))
        segno.make(url).terminal(out=drawn, compact=True)
        typer.echo(f"open on the device:\n\n  {url}\n\n{drawn.getvalue()}")
        console.note(f"an Android phone on a cable: adb reverse {forwarded}, and open the same address there")
        console.note(f"then, in another terminal: adaptare overhead MODEL --device browser:{name}; Ctrl-C ends this")

    serve_page(name=name, host=host, port=port, runtime_files=runtime_files, report=console.note, started=started)
    return 0
