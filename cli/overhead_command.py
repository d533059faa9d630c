"""`adaptare overhead`."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from adaptare.profiler import AdapterConfig, Measurement, ModelShape


@dataclass(frozen=True)
class Row:
    """What one phase and mode cost; seconds as `latency_s`, overheads as shares of the base."""

    phase: str
    length: int
    batch: int
    mode: str
    base_s: float
    latency_s: float
    lower_s: float
    upper_s: float
    raw_s: float
    overhead: float
    overhead_lower: float
    overhead_upper: float
    verdict: str
    rounds: int
    openings: int
    stopped_by: str


@command
def overhead(
    model: ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[int, typer.Option("--rank", help="The same rank on every chosen site.")] = 16,
    sites: Annotated[str, typer.Option("--sites", help="Kinds of linears: q_proj,v_proj.", show_default="all")] = "",
    prefill: Annotated[int, typer.Option("-p", "--prefill", help="Tokens of the prompt; 0: no prefill.")] = 64,
    decode: Annotated[int, typer.Option("-d", "--decode", help="Cached positions in decode; -1: no decode.")] = 64,
    batch: Annotated[int, typer.Option("--batch", help="Sequences at once.")] = 1,
    device: DeviceOption = DEFAULT_DEVICE,
    half_width: HalfWidthOption = 0.003,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="At most so long per phase and opening.", show_default="20; ONNX Runtime 7"),
    ] = None,
    openings: Annotated[
        int | None,
        typer.Option(
            "--openings", help="How often every program is loaded anew.", min=1, show_default="5; ONNX Runtime 15"
        ),
    ] = None,
    store: StoreOption = "adaptare.db",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What one adapter costs on a device, merged and not, in prefill and decode, with 95 % intervals."""
    from adaptare.campaign import measure
    from adaptare.devices import InputError
    from adaptare.profiler import Store, Workload, open_model, precise_within, programs_for, read_peft
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    if prefill <= 0 and decode < 0:
        raise InputError("nothing is left to measure; give -p above 0 or -d at least 0")
    target = target_of(device)
    programs = programs_for(target.device.info(), cache=cache)
    openings, seconds = target.pace((5, 20.0), openings, seconds)
    shape = open_model(model, cache=cache).shape
    config = read_peft(adapter, shape) if adapter else _uniform(shape, rank, sites)
    swappable: list[Workload] = []
    if prefill > 0:
        swappable.append(
            Workload(shape, config, phase="prefill", batch=batch, tokens=prefill, quantisation=target.quantisation)
        )
    if decode >= 0:
        swappable.append(
            Workload(shape, config, phase="decode", batch=batch, past=decode, quantisation=target.quantisation)
        )
    for workload in swappable:
        programs.need(workload)
    kept = Store(store)
    measured = [
        each
        for workload in swappable
        for each in measure(
            [replace(workload, mode=mode) for mode in programs.modes(workload)],
            device=target.device,
            rule=precise_within(half_width, seconds),
            seconds=seconds,
            seed=seed,
            openings=openings,
            store=kept,
            console=console,
            title=f"measuring {workload.phase}",
            programs=programs,
        )
    ]
    rows = [_row(each) for each in measured if not each.failure]
    console.table(
        f"{model}: adapter on {len(config)} of {len(shape.sites)} linears, "
        f"{config.adapter_parameters(shape):,} weights, measured on {target.name}",
        ["phase", "mode", "base ms", "with adapter ms", "overhead", "95 % interval", "verdict"],
        [_cells(row) for row in rows],
    )
    result = {
        "model": model,
        "device": target.device.info().device,
        "quantisation": target.quantisation,
        "sites": len(config),
        "rows": [asdict(row) for row in rows],
        "failures": [
            {"phase": each.workload.phase, "mode": each.workload.mode, "reason": each.failure}
            for each in measured
            if each.failure
        ],
    }
    console.result(result)
    if len(rows) < len(measured):
        raise typer.Exit(WORLD_FAILED)


def _uniform(shape: "ModelShape", rank: int, sites: str) -> "AdapterConfig":
    from adaptare.devices import InputError
    from adaptare.profiler import AdapterConfig

    if rank < 1:
        raise InputError(f"--rank must be at least 1, not {rank}; without an adapter there is no overhead")
    kinds = tuple(filter(None, sites.split(",")))
    unknown = set(kinds) - {site.kind for site in shape.sites}
    if unknown:
        known = ", ".join(dict.fromkeys(site.kind for site in shape.sites))
        raise InputError(f"--sites: the model has no {', '.join(sorted(unknown))}; it has {known}")
    return AdapterConfig.uniform(shape, rank, kinds=kinds)


def _row(measurement: "Measurement") -> Row:
    from adaptare.profiler import verdict

    workload, share = measurement.workload, measurement.overhead
    return Row(
        phase=workload.phase,
        length=workload.length,
        batch=workload.batch,
        mode=workload.mode,
        base_s=measurement.reference_s,
        latency_s=measurement.latency_s,
        lower_s=measurement.lower_s,
        upper_s=measurement.upper_s,
        raw_s=measurement.raw_s,
        overhead=share.middle,
        overhead_lower=share.lower,
        overhead_upper=share.upper,
        verdict=verdict(share),
        rounds=len(measurement.visits),
        openings=len(set(measurement.openings.tolist())),
        stopped_by=measurement.stopped_by,
    )


def _cells(row: Row) -> list[str]:
    return [
        f"{row.phase} {row.length}",
        row.mode,
        milliseconds(row.base_s),
        milliseconds(row.latency_s),
        percent(row.overhead),
        between(percent(row.overhead_lower), percent(row.overhead_upper)),
        row.verdict,
    ]
