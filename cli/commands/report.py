import io
import json
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from adaptare.arguments import DEFAULT_STORE
from adaptare.console import command, console


@command
def report(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="Stores, fronts, predictors, what --json of a command printed, or folders of tune and demo.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    png: Annotated[Path | None, typer.Option("--png", help="Folder for every figure as PNG.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Folder for every figure as SVG.")] = None,
) -> int:
    """One page with figures and tables of results, for a browser.

    The page needs no network. Several inputs are compared side by side.
    """
    from adaptare.report_files import check_report, sections, write_report
    from adaptare.workflows.reporting.inputs import read_source

    folders = {suffix: folder for suffix, folder in ((".png", png), (".svg", svg)) if folder}
    check_report(output, folders)
    sources = [read_source(place, feedback=console().feedback) for place in inputs]
    return console().show(write_report(sources, output, folders), sections)


@command
def serve(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="INPUT", help="Stores, or folders of tune and demo; see report.", show_default=DEFAULT_STORE
        ),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Name of the device, which is browser:NAME.")] = "page",
    host: Annotated[str, typer.Option("--host", help="Address of this machine that browsers open.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0: any free one.", min=0, max=65535)] = 0,
    runtime_files: Annotated[
        Path | None,
        typer.Option(
            "--runtime-files",
            help="Folder with an unpacked `npm pack onnxruntime-web`.",
            show_default="the device's page loads it from cdn.jsdelivr.net",
        ),
    ] = None,
) -> int:
    """The page of `report`, refreshed while campaigns run.

    Another page makes the browser of a phone a device.
    """
    import segno

    from adaptare.devices.browser import page_server
    from adaptare.live_page import serve_live

    device = page_server(name=name, runtime_files=runtime_files, report=console().note)
    if inputs:
        from adaptare.workflows.reporting.inputs import read_source

        for place in inputs:
            read_source(place)

    def started(url: str) -> None:
        if console().as_json:
            typer.echo(json.dumps({"url": url, "device": f"browser:{name}", "device_url": device.url}))
            return
        drawn, forwarded = io.StringIO(), "tcp:{0.port} tcp:{0.port}".format(urlsplit(url))
        segno.make(device.url).terminal(out=drawn, compact=True)
        typer.echo(f"results, refreshed when they change:\n\n  {url}\n")
        typer.echo(f"open on a device, which is then browser:{name}:\n\n  {device.url}\n\n{drawn.getvalue()}")
        console().note(f"an Android phone on a cable: adb reverse {forwarded}, and open the same address there")
        console().note(f"then, in another terminal: adaptare overhead MODEL --device browser:{name}; Ctrl-C ends this")

    serve_live(inputs or [DEFAULT_STORE], device, host=host, port=port, started=started)
    return 0
