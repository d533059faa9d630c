"""`adaptare predict`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from adaptare.arguments import JsonOption
from adaptare.console import Console, between, command, megabytes, milliseconds, percent


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
    within: Annotated[
        str | None, typer.Option("--within", help="With what probability each meets a budget, such as decode=20ms.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="Refuse a predictor of another device.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What adapters would take, without running them: time, and memory for weights, adapter and cache."""
    from adaptare.adapter_files import read_adapters
    from adaptare.devices import InputError
    from adaptare.overhead_grid import check_alone, grid, read_ranks
    from adaptare.predictor import load_predictor
    from adaptare.profiler import BYTES, Configuration, memory_bytes
    from adaptare.target import named_target

    console = Console(as_json=as_json)
    check_alone(adapters, rank=rank is not None, sites=sites)
    if not adapters and rank is None:
        raise InputError("there is nothing to predict; name adapters, or ranks with --rank")
    fitted = load_predictor(predictor)
    template = fitted.template
    if device:
        load_predictor(predictor, device=named_target(device, fitted.model.device, template).device.info())
    named = [each for path in adapters or [] for each in read_adapters(path, template.shape).items()]
    if rank is not None:
        cases = grid(template.shape, read_ranks(rank), sites or [])
        named = [(f"{case.placement} r{case.rank}", Configuration.of(case.config.by_path)) for case in cases]
    configs = [config for _, config in named]
    predicted = fitted.predict_configs(configs)
    probabilities = None
    if within:
        from adaptare.search import read_budget
        from adaptare.searching import limit_of

        probabilities = fitted.probability_within(configs, limit_of(read_budget(within), fitted))
    base_s = fitted.model.reference_s
    rows: list[dict[str, Any]] = [
        {
            "adapter": name,
            "sites": len(config.ranks),
            "mean_s": float(predicted.mean_s[index]),
            "lower_s": float(predicted.lower_s[index]),
            "upper_s": float(predicted.upper_s[index]),
            "overhead": float(predicted.mean_s[index] / base_s - 1),
            "memory_bytes": memory_bytes(template.with_configuration(config)),
            "adapter_bytes": BYTES[template.dtype] * config.adapter_parameters(template.shape),
            "extrapolates": bool(predicted.extrapolates[index]),
            **({"within": float(probabilities[index])} if probabilities is not None else {}),
        }
        for index, (name, config) in enumerate(named)
    ]
    origin = fitted.model.origin
    console.table(
        f"{origin.capitalize()} for {fitted.model.device.device}: {template.describe()}; "
        f"base {milliseconds(base_s)} ms",
        [
            "adapter",
            "sites",
            "ms",
            f"{fitted.model.level:.0%} interval",
            "overhead",
            "memory MB",
            "outside what was measured",
        ]
        + ([within] if within else []),
        [
            [
                row["adapter"],
                str(row["sites"]),
                milliseconds(row["mean_s"]),
                between(milliseconds(row["lower_s"]), milliseconds(row["upper_s"])),
                percent(row["overhead"]),
                megabytes(row["memory_bytes"]),
                "yes" if row["extrapolates"] else "no",
                *([f"{row['within']:.0%}"] if within else []),
            ]
            for row in rows
        ],
    )
    console.result(
        {
            "predictor": str(predictor),
            "device": fitted.model.device.device,
            "base_s": base_s,
            "origin": origin,
            "rows": rows,
        }
    )
