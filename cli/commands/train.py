from pathlib import Path
from typing import Annotated, Literal

import typer

from adaptare import arguments
from adaptare.console import command, console, requested


@command
def train(
    model: arguments.ModelArgument,
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the super-adapter; resumed if begun.")],
    recipe: Annotated[
        str,
        typer.Option(
            "--recipe",
            help="Kind of super-adapter; see: adaptare recipes.",
            autocompletion=arguments.registered("adaptare.recipes"),
        ),
    ] = "placement",
    space: Annotated[
        str | None, typer.Option("--space", help=arguments.SPACE_HELP, show_default="the recipe's")
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(
            "--rank", help="Ranks a site may have, 0 for none; not with a YAML file.", show_default="the recipe's"
        ),
    ] = None,
    data: arguments.DataOption = None,
    validation: Annotated[
        Path | None,
        typer.Option("--validation", help="Separate file of validation examples.", show_default="a share of --data"),
    ] = None,
    test: Annotated[
        Path | None, typer.Option("--test", help="Separate file of test examples.", show_default="a share of --data")
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(
            "--chat-template",
            help="alpaca, or a file with a Jinja template; exports carry it.",
            show_default="the tokenizer's",
        ),
    ] = None,
    scoring: Annotated[
        Literal["sum", "per-character"],
        typer.Option("--scoring", help="Score of a multiple-choice answer: its log-likelihood, or that per character."),
    ] = "sum",
    steps: Annotated[int, typer.Option("--steps", help="Optimiser steps in all.", min=1)] = 150,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Examples per step.", min=1)] = 8,
    learning_rate: Annotated[float, typer.Option("--learning-rate", help="At the start; falls to 0.")] = 2e-3,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longer examples are cut.")] = 64,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Examples to validate, and to test.")] = 48,
    quantisation: Annotated[
        arguments.Quantisation | None,
        typer.Option(
            "--quantise",
            help="Round the base's weights as the device that it will run on does.",
            show_default="the recipe's",
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        arguments.share_option("--sparsity", "Share of each row of a pruned base that is zero.", shown="the recipe's"),
    ] = None,
    predictor: Annotated[
        Path | None, typer.Option("--predictor", help="Predictor written by adaptare fit, for --budget.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Train configurations near this budget: decode=20ms, overhead=5%, decode=-15%."),
    ] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="Train in bfloat16; adapters stay in float32.")] = False,
    activation_checkpointing: Annotated[
        bool, typer.Option("--activation-checkpointing", help="Less memory, about a third more time, the same result.")
    ] = False,
    report_to: Annotated[
        str,
        typer.Option("--report-to", metavar="NAME,...", help="Trackers of the loss: tensorboard, mlflow, wandb."),
    ] = "",
    cache: arguments.CacheOption = None,
    seed: arguments.SeedOption = 0,
) -> int:
    """Trains a super-adapter, whose slices are all adapters.

    After Ctrl-C, the same command goes on from the last checkpoint.
    """
    from adaptare.inputs import whole_numbers
    from adaptare.search import TrainingSettings, read_budget
    from adaptare.views import train as view
    from adaptare.workflows.train.task import TrainingData
    from adaptare.workflows.train.training import TrainRequest
    from adaptare.workflows.train.training import train as run

    request = requested(
        TrainRequest,
        data=requested(TrainingData, file=data),
        settings=requested(TrainingSettings, report_to=tuple(filter(None, map(str.strip, report_to.split(","))))),
        ranks=None if ranks is None else whole_numbers(ranks, "--rank"),
        budget=read_budget(budget) if budget else None,
    )
    return console().show(run(request, feedback=console().feedback), view.sections)


@command
def recipes() -> int:
    """Recipes of super-adapters for `adaptare train --recipe`.

    Each has its idea, paper, needs and result.
    """
    from adaptare.search.recipes import all_recipes
    from adaptare.views import train as view

    return console().show({"recipes": all_recipes()}, view.recipe_sections)
