from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import CacheOption, JsonOption, NowOption, SeedOption
from adaptare.completion import registered
from adaptare.console import Console, command, requested


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
            "--budget", help="decode=20ms, prefill@256=80ms, overhead=5% or decode=-15%; several are all met."
        ),
    ],
    evaluations: Annotated[
        int, typer.Option("--evaluations", min=1, help="Configurations to evaluate; staged-fisher takes 8 at most.")
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
    workers: Annotated[int, typer.Option("--workers", help="Processes that compute losses.", min=1)] = 1,
    backend: Annotated[
        str, typer.Option("--backend", help="Of joblib, for several workers: loky, or ray for a Ray cluster.")
    ] = "loky",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> int:
    """Finds the adapters with the lowest loss whose predicted latency stays within a budget."""
    from adaptare.search import read_budget
    from adaptare.views import search as view
    from adaptare.workflows.search.searching import SearchRequest, search_folder

    console = Console(as_json=as_json)
    request = requested(SearchRequest, budgets=[read_budget(each) for each in budgets])
    return console.show(search_folder(request, feedback=console.feedback), view.sections)
