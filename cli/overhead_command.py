"""`adaptare overhead`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import (
    DEFAULT_DEVICE,
    CacheOption,
    DeviceOption,
    HalfWidthOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    StoreOption,
)
from adaptare.console import WORLD_FAILED, Console, between, command, milliseconds, percent


@command
def overhead(
    model: ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[int, typer.Option("--rank", help="The same rank on every chosen site.")] = 16,
    sites: Annotated[
        str, typer.Option("--sites", help="Kinds of linears, for example q_proj,v_proj.", show_default="all")
    ] = "",
    prefill: Annotated[int, typer.Option("-p", "--prefill", help="Tokens of the prompt; 0: leave prefill out.")] = 64,
    decode: Annotated[
        int, typer.Option("-d", "--decode", help="Cached positions in decode; -1: leave decode out.")
    ] = 64,
    batch: Annotated[int, typer.Option("--batch", help="Sequences at once.")] = 1,
    device: DeviceOption = DEFAULT_DEVICE,
    half_width: HalfWidthOption = 0.003,
    seconds: Annotated[float, typer.Option("--seconds", help="At most so long per phase and opening.")] = 40.0,
    openings: Annotated[int, typer.Option("--openings", help="How often every program is loaded anew.")] = 3,
    store: StoreOption = "adaptare.db",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What one adapter costs on a device, merged and not, in prefill and decode, with 95 % intervals."""
    from adaptare.campaign import measure
    from adaptare.devices import InputError, connect
    from adaptare.profiler import AdapterConfig, Store, Workload, open_model, precise_within, read_peft, verdict

    console = Console(as_json=as_json)
    target = connect(device)
    shape = open_model(model, cache=cache).shape
    if adapter is not None:
        config = read_peft(adapter, shape)
    else:
        if rank < 1:
            raise InputError(f"--rank must be at least 1, not {rank}; without an adapter there is no overhead")
        kinds = tuple(filter(None, sites.split(",")))
        unknown = set(kinds) - {site.kind for site in shape.sites}
        if unknown:
            known = ", ".join(dict.fromkeys(site.kind for site in shape.sites))
            raise InputError(f"--sites: the model has no {', '.join(sorted(unknown))}; it has {known}")
        config = AdapterConfig.uniform(shape, rank, kinds=kinds)
    phases: list[dict[str, str | int]] = []
    if prefill:
        phases.append({"phase": "prefill", "tokens": prefill})
    if decode >= 0:
        phases.append({"phase": "decode", "past": decode})
    if not phases:
        raise InputError("nothing is left to measure; give -p above 0 or -d at least 0")
    rule = precise_within(half_width, seconds)
    rows = []
    with_store = Store(store)
    for phase in phases:
        swappable = Workload(shape, config, mode="swappable", batch=batch, **phase)  # type: ignore[arg-type]
        measured = measure(
            [swappable, swappable.merged],
            device=target,
            rule=rule,
            seconds=seconds,
            seed=seed,
            openings=openings,
            store=with_store,
            console=console,
            title=f"measuring {phase['phase']}",
        )
        for each in measured:
            if each.failure:
                continue
            share = each.overhead
            rows.append(
                {
                    "phase": each.workload.phase,
                    "length": each.workload.length,
                    "batch": batch,
                    "mode": each.workload.mode,
                    "base_s": each.reference_s,
                    "latency_s": each.latency_s,
                    "lower_s": each.lower_s,
                    "upper_s": each.upper_s,
                    "raw_s": each.raw_s,
                    "overhead": share.middle,
                    "overhead_lower": share.lower,
                    "overhead_upper": share.upper,
                    "verdict": verdict(share),
                    "rounds": len(each.visits),
                    "openings": len(set(each.openings.tolist())),
                    "stopped_by": each.stopped_by,
                }
            )
    console.table(
        f"{model}: adapter on {len(config)} of {len(shape.sites)} linears, "
        f"{config.adapter_parameters(shape):,} weights, measured on {target.info().device}",
        ["phase", "mode", "base ms", "with adapter ms", "overhead", "95 % interval", "verdict"],
        [
            [
                f"{row['phase']} {row['length']}",
                str(row["mode"]),
                milliseconds(row["base_s"]),
                milliseconds(row["latency_s"]),
                percent(row["overhead"]),
                between(percent(row["overhead_lower"]), percent(row["overhead_upper"])),
                row["verdict"],
            ]
            for row in rows
        ],
    )
    console.result({"model": model, "device": target.info().device, "sites": len(config), "rows": rows})
    if not rows:
        raise typer.Exit(WORLD_FAILED)
