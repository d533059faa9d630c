from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import CacheOption, JsonOption, NowOption
from adaptare.console import Console, command, requested


@command
def predict(
    predictor: Annotated[Path, typer.Argument(metavar="PREDICTOR", help="What adaptare fit wrote.")],
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[ADAPTER...]",
            help="PEFT folders, JSON files of module path or glob to rank, or CSV files of many adapters; else --rank.",
        ),
    ] = None,
    rank: Annotated[
        str | None, typer.Option("--rank", help="On every chosen site; several with commas make a grid.")
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option(
            "--sites", help="Kinds of linears, for example q_proj,v_proj; may be repeated.", show_default="all"
        ),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(
            "--length",
            help="Tokens of prefill, or cached positions of decode, between the profiled ones.",
            show_default="the longest profiled",
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", help="Report the probability of meeting a budget, such as decode=20ms.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Refuse a predictor of another device.")] = None,
    recalibrate: NowOption = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> int:
    """Predicted cost of adapters, without running them: time, and memory for weights, adapter and cache."""
    from adaptare.inputs import check_alone, read_ranks
    from adaptare.search import read_budget
    from adaptare.views import predict as view
    from adaptare.workflows.fit.predicting import PredictRequest, predict_adapters

    check_alone(adapters, rank=rank is not None, sites=sites)
    request = requested(
        PredictRequest,
        ranks=() if rank is None else read_ranks(rank),
        budget=None if budget is None else read_budget(budget),
    )
    console = Console(as_json=as_json)
    return console.show(predict_adapters(request, feedback=console.feedback), view.sections)
