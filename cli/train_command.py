"""`adaptare train`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from adaptare.arguments import (
    DEFAULT_SPACE,
    CacheOption,
    DataOption,
    JsonOption,
    ModelArgument,
    Quantisation,
    RanksOption,
    SeedOption,
    SpaceOption,
)
from adaptare.console import Console, command


@command
def train(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the super-adapter; resumed if begun.")],
    space: SpaceOption = DEFAULT_SPACE,
    ranks: RanksOption = None,
    data: DataOption = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", help="File of its own to validate on.", show_default="drawn")
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="File of its own for the final test.", show_default="drawn")
    ] = None,
    scoring: Annotated[
        Literal["sum", "per-character"],
        typer.Option("--scoring", help="Log-likelihood that makes a choice the answer, or that by its length."),
    ] = "sum",
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps in all.", min=1)] = 150,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Examples per step.", min=1)] = 8,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="At the start; falls to 0.")] = 2e-3,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longer examples are cut.")] = 64,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Examples to validate, and to test.")] = 48,
    quantise: Annotated[
        Quantisation,
        typer.Option("--quantise", help="Round the base's weights as the device that it will run on does."),
    ] = "none",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> int:
    """Trains one super-adapter whose slices are the adapters of the space; Ctrl-C and the same command resume."""
    from adaptare.inputs import space_of
    from adaptare.profiler import open_model
    from adaptare.search.workflows.adaptation import TrainReport, load_adaptation, train_adaptation

    console = Console(as_json=as_json)
    source = open_model(model, cache=cache)
    chosen = space_of(space, ranks, source.shape)
    loaded = load_adaptation(
        source,
        data=data,
        seed=seed,
        max_tokens=max_tokens,
        held_out=held_out,
        quantisation=quantise,
        validation=validation,
        test=test,
        scoring=scoring,
    )
    if loaded.examples.dropped or loaded.examples.cut:
        console.note(
            f"{loaded.examples.dropped} examples are left out because their prompt alone has {max_tokens} tokens or "
            f"more, and of {loaded.examples.cut} the completion is cut; --max-tokens takes longer ones"
        )
    trained = train_adaptation(
        loaded,
        chosen,
        folder=output,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        feedback=console.feedback,
    )
    return console.show(TrainReport(model, output, loaded, trained))
