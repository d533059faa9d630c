"""`adaptare interpolate`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import JsonOption, ReplaceOption
from adaptare.console import Console, command


@command
def interpolate(
    predictors: Annotated[
        list[Path], typer.Argument(metavar="PREDICTOR...", help="What adaptare fit wrote, for two lengths or more.")
    ],
    length: Annotated[int, typer.Option("--length", help="Tokens in prefill, cached positions in decode.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Name of the files.", show_default="predictor-PHASE-LENGTH[-BASE][-open]"),
    ] = None,
    replace: ReplaceOption = False,
    as_json: JsonOption = False,
) -> int:
    """A predictor for a length between those that were profiled, without measuring it."""
    from adaptare.workflows.fit.interpolation import write_interpolated

    return Console(as_json=as_json).show(write_interpolated(predictors, length, output=output, replace=replace))
