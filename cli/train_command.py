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
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps in all.", min=1)] = 150,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Examples per step.", min=1)] = 8,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="At the start; falls to 0.")] = 2e-3,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longer examples are cut.")] = 64,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Examples to validate, and to test.")] = 48,
    quantise: Annotated[
        Literal["none", "int8", "int4"],
        typer.Option("--quantise", help="Round the base's weights as the device that it will run on does."),
    ] = "none",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Trains one super-adapter whose slices are the adapters of the space; Ctrl-C and the same command resume."""
    from adaptare.adaptation import load_adaptation, train_adaptation
    from adaptare.inputs import space_of
    from adaptare.profiler import open_model

    console = Console(as_json=as_json)
    source = open_model(model, cache=cache)
    chosen = space_of(space, ranks, source.shape)
    loaded = load_adaptation(
        source, data=data, seed=seed, max_tokens=max_tokens, held_out=held_out, quantisation=quantise
    )
    examples = loaded.examples
    if examples.dropped or examples.cut:
        console.note(
            f"{examples.dropped} examples are left out because their prompt alone has {max_tokens} tokens or more, and "
            f"of {examples.cut} the completion is cut; --max-tokens takes longer ones"
        )
    outcome = train_adaptation(
        loaded,
        chosen,
        folder=output,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        console=console,
    )
    console.say(f"held-out loss {outcome.base_loss:.3f} without adapter, {outcome.full_loss:.3f} with all of it")
    console.say(f"written: {output}; next: adaptare search {output} --predictor PREDICTOR --budget overhead=5%")
    console.result(
        {
            "model": model,
            "folder": str(output),
            "quantisation": quantise,
            "steps": outcome.steps,
            "seconds": outcome.seconds,
            "base_loss": outcome.base_loss,
            "full_loss": outcome.full_loss,
            "examples": len(examples.train),
            "dropped": examples.dropped,
            "cut": examples.cut,
        }
    )
