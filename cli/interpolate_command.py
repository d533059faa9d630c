"""`adaptare interpolate`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command, milliseconds


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
    as_json: JsonOption = False,
) -> None:
    """A predictor for a length between those that were profiled, without measuring it."""
    from adaptare.devices import InputError
    from adaptare.predictor import bends, load_predictor, save_predictor
    from adaptare.predictor import interpolate as between
    from adaptare.predictor.fitting.predictor_name import default_name

    console = Console(as_json=as_json)
    known = [load_predictor(path) for path in predictors]
    found = between(known, length)
    base = output or default_name(found, length=length, every_site=found.template.open)
    if {_stem(base)} & {_stem(path) for path in predictors}:
        raise InputError(f"{base} is one of the predictors between which this one lies; name another with --output")
    files = save_predictor(found, base)
    off = bends(known)
    for inner, error in off.items():
        console.say(f"left out, the base at length {inner} would be {error:+.1%} off")
    console.say(f"base at length {length}: {milliseconds(found.model.reference_s)} ms")
    console.say(f"written: {files[0]} and {files[1]}; next: adaptare predict {base} ADAPTER")
    console.result(
        {
            "predictor": str(base),
            "phase": found.template.phase,
            "length": length,
            "base_s": found.model.reference_s,
            "left_out": {str(inner): error for inner, error in off.items()},
        }
    )


def _stem(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in (".json", ".npz") else path
