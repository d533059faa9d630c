"""`adaptare predict`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, command


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
    as_json: JsonOption = False,
) -> int:
    """Predicted cost of adapters, without running them: time, and memory for weights, adapter and cache."""
    from adaptare.core import InputError
    from adaptare.inputs import check_alone, read_ranks
    from adaptare.predictor import load_predictor
    from adaptare.profiler import Configuration
    from adaptare.workflows.adapter_files import read_adapters
    from adaptare.workflows.fit.predictions import report_predictions
    from adaptare.workflows.grid import grid
    from adaptare.workflows.target import named_target

    check_alone(adapters, rank=rank is not None, sites=sites)
    if not adapters and rank is None:
        raise InputError("there is nothing to predict; name adapters, or ranks with --rank")
    fitted = load_predictor(predictor)
    within = None
    if budget:
        from adaptare.search import read_budget
        from adaptare.search.budget.limits import covering

        within = read_budget(budget)
        fitted = covering(within, fitted)
    fitted = fitted if length is None else fitted.at(length)
    shape = fitted.template.shape
    if device:
        load_predictor(predictor, device=named_target(device, fitted.device, fitted.template).device.info())
    named = [pair for path in adapters or [] for pair in read_adapters(path, shape).items()]
    if rank is not None:
        cases = grid(shape, read_ranks(rank), sites or [])
        named = [(f"{case.placement} r{case.rank}", Configuration.of(case.config.by_path)) for case in cases]
    limit_s = within.bound(fitted.base_value) if within else None
    report = report_predictions(str(predictor), fitted, named, budget=budget or "", limit_s=limit_s)
    return Console(as_json=as_json).show(report)
