from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import CacheOption, NowOption, Quantisation, SeedOption, registered
from adaptare.console import command, console, requested


@command
def search(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="What adaptare train wrote.")],
    predictors: Annotated[
        list[Path],
        typer.Option(
            "--predictor", help="What adaptare fit wrote; one for each budget in their order, or one for all."
        ),
    ],
    budgets: Annotated[
        list[str],
        typer.Option(
            "--budget",
            help="decode=20ms, prefill@256=80ms, overhead=5%, decode=-15%, or NAME:decode=20ms with the name of "
            "a predictor; several are all met.",
        ),
    ],
    evaluations: Annotated[
        int,
        typer.Option("--evaluations", min=1, help="Configurations to evaluate, or to race by staged-fisher, at most."),
    ] = 120,
    winners: Annotated[int, typer.Option("--winners", help="Number of winners to report.", min=1)] = 3,
    algorithm: Annotated[
        str | None,
        typer.Option(
            "--algorithm",
            help="staged-fisher, nsga2, random, hill-climbing, or one that another package registers.",
            show_default="the recipe's",
            autocompletion=registered("adaptare.algorithms"),
        ),
    ] = None,
    polish: Annotated[
        int, typer.Option("--polish", metavar="STEPS", help="Train the first winner further, on its own.", min=0)
    ] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of the result.", show_default="FOLDER/front.json")
    ] = None,
    recalibrate: NowOption = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes that compute validation losses.", min=1)] = 1,
    backend: Annotated[
        str, typer.Option("--backend", help="Of joblib, for several workers: loky, or ray for a Ray cluster.")
    ] = "loky",
    bf16: Annotated[bool, typer.Option("--bf16", help="Compute losses and gradients in bfloat16.")] = False,
    cache: CacheOption = None,
    seed: SeedOption = 0,
) -> int:
    """Finds the adapters with the lowest loss within a budget.

    Latency is predicted. Only `adaptare verify` can say that a budget is met.
    """
    from adaptare.search import read_budget
    from adaptare.views import search as view
    from adaptare.workflows.search.searching import SearchRequest, search_folder

    request = requested(SearchRequest, budgets=[read_budget(each, named=True) for each in budgets])
    return console().show(search_folder(request, feedback=console().feedback), view.sections)


@command
def shrink(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="A LoRA or rsLoRA that PEFT saved.")],
    base: Annotated[str, typer.Option("--base", help="Its base model.")],
    predictor: Annotated[Path, typer.Option("--predictor", help="What adaptare fit wrote.")],
    budget: Annotated[str, typer.Option("--budget", help="decode=20ms, prefill=80ms or overhead=5%.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Examples as for adaptare train; the ranks with the lowest held-out loss are kept.",
            show_default="none; the ranks with the most energy are kept",
        ),
    ] = None,
    polish: Annotated[int, typer.Option("--polish", metavar="STEPS", help="Training steps after the cut.", min=0)] = 0,
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=1, help="Configurations to race by held-out loss, at most.")
    ] = 120,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longer examples are cut.")] = 64,
    held_out: Annotated[int, typer.Option("--held-out", min=1, help="Examples to validate, and to test.")] = 48,
    quantisation: Annotated[
        Quantisation,
        typer.Option("--quantise", help="Quantisation of the base's weights on its device."),
    ] = "none",
    cache: CacheOption = None,
    recalibrate: NowOption = False,
    seed: SeedOption = 0,
) -> int:
    """Cuts an existing adapter to a latency budget.

    No super-adapter is trained.
    """
    from adaptare.profiler.workloads import CONFIG
    from adaptare.search import read_budget
    from adaptare.views import search as view
    from adaptare.workflows.search.shrinking import ShrinkRequest, shrink_adapter
    from adaptare.workflows.train.task import TrainingData

    request = requested(
        ShrinkRequest,
        adapter=adapter.parent if adapter.name == CONFIG else adapter,
        budget=read_budget(budget),
        data=requested(TrainingData, file=data) if data else None,
    )
    return console().show(shrink_adapter(request, feedback=console().feedback), view.shrunk_sections)
