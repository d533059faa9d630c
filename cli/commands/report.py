from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


@command
def report(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Stores, fronts, predictors, what --json of a command printed, or folders of tune and demo.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page.")] = Path("report.html"),
    png: Annotated[Path | None, typer.Option("--png", help="Folder for every figure as PNG.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Folder for every figure as SVG.")] = None,
    as_json: JsonOption = False,
) -> int:
    """One page with figures and tables of results, for a browser without a network; several inputs side by side."""
    from adaptare.report_files import check_report, sections, write_report
    from adaptare.workflows.reporting.inputs import read_source

    folders = {suffix: folder for suffix, folder in ((".png", png), (".svg", svg)) if folder}
    check_report(output, folders)
    return Console(as_json=as_json).show(write_report(list(map(read_source, inputs)), output, folders), sections)
