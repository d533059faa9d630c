from pathlib import Path
from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import command, console, requested


@command
def fit(
    device: Annotated[
        str | None,
        typer.Option("--device", help="As it was spelled, or its hash.", show_default="the only one in the store"),
    ] = None,
    store: arguments.StoreOption = arguments.DEFAULT_STORE,
    prefill: Annotated[
        str | None,
        typer.Option("-p", "--prefill", help="Rows of prefill of these lengths, such as 64,256, if there are others."),
    ] = None,
    decode: Annotated[
        str | None,
        typer.Option("-d", "--decode", help="Rows of decode after these lengths, such as 64,256, if there are others."),
    ] = None,
    mode: Annotated[
        arguments.Mode | None,
        typer.Option("--mode", help="Application of adapters, if the store holds several."),
    ] = None,
    every_site: Annotated[
        bool | None,
        typer.Option(
            "--open/--cut",
            help="Rows of graphs where every site takes an adapter (open) or only some (cut), if there are both.",
        ),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Sequences at once, if the store holds several.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="As in adaptare profile, if the store holds several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Name of the files.",
            show_default="predictor[-QUANTITY]-PHASE[-LENGTH...][-BASE][-open]",
        ),
    ] = None,
    quantity: Annotated[
        str, typer.Option("--quantity", help="Measured quantity to predict, such as latency or energy.")
    ] = "latency",
    source: Annotated[
        Path | None,
        typer.Option(
            "--from", help="Transfer from a predictor of another device or model; 10 to 20 rows are then enough."
        ),
    ] = None,
    regressor: Annotated[
        str | None,
        typer.Option(
            "--regressor",
            help="shrunken, non-negative, curved, or one that another package registers.",
            show_default="chosen by the error on held-out adapters",
            autocompletion=arguments.registered("adaptare.regressors"),
        ),
    ] = None,
    replace: arguments.ReplaceOption = False,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="Draws predicted over measured, in the format that the name ends in."),
    ] = None,
    cache: arguments.CacheOption = None,
) -> int:
    """Fits a latency predictor to the measurements of a device.

    It is cross-validated, and written to two files. The device need not be reachable: rows measured elsewhere are
    chosen by its spelling there, or by the hash that `adaptare compare` and error messages show. Rows of several
    lengths give one predictor for all lengths between. An existing predictor is replaced by one of the same kind unless
    that is expected to be worse (exit code 1), and by others only with --replace.
    """
    from adaptare.figures import check_figure, drawn
    from adaptare.inputs import read_phase_and_lengths
    from adaptare.profiler import open_model
    from adaptare.views import fit as view
    from adaptare.workflows.fit.fit_rows import RowFilter
    from adaptare.workflows.fit.fitting import FitRequest, fit_rows

    check_figure(figure)
    shape = open_model(model, cache=cache).shape if model else None
    phase, lengths = read_phase_and_lengths(prefill, decode)
    rows = requested(RowFilter, phase=phase, lengths=lengths, open=every_site, model=shape)
    result = fit_rows(requested(FitRequest, rows=rows), feedback=console().feedback)
    code = drawn(view.parity(result), figure, console()) if figure else 0
    return console().show(result, view.sections, view.exit_code) or code


@command
def predict(
    predictor: Annotated[Path, typer.Argument(metavar="PREDICTOR", help="What adaptare fit wrote.")],
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ADAPTER",
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
    recalibrate: arguments.NowOption = False,
    cache: arguments.CacheOption = None,
) -> int:
    """Predicted cost of adapters, without running them.

    The cost is time, and memory of weights, adapter and cache.
    """
    from adaptare.inputs import check_alone, read_ranks
    from adaptare.search import read_budget
    from adaptare.views import fit as view
    from adaptare.workflows.fit.predicting import PredictRequest, predict_adapters

    check_alone(adapters, rank=rank is not None, sites=sites)
    request = requested(
        PredictRequest,
        ranks=() if rank is None else read_ranks(rank),
        budget=None if budget is None else read_budget(budget),
    )
    return console().show(predict_adapters(request, feedback=console().feedback), view.predicted_sections)
