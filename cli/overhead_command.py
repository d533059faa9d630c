"""`adaptare overhead`."""

from dataclasses import asdict, replace
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
    StubsOption,
)
from adaptare.console import WORLD_FAILED, Console, between, command, milliseconds, percent

if TYPE_CHECKING:
    from adaptare.overhead_grid import Row, Slope
    from adaptare.profiler import Workload


@command
def overhead(
    model: ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[
        str, typer.Option("--rank", help="The same on every chosen site; 1,8,64 for a curve, from 0 in ONNX Runtime.")
    ] = "16",
    sites: Annotated[
        list[str] | None,
        typer.Option("--sites", help="Kinds of linears: q_proj,v_proj; again for more.", show_default="all"),
    ] = None,
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
    stubs: StubsOption = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draws overhead over rank, in the format that the name ends in.")
    ] = None,
    store: StoreOption = "adaptare.db",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What adapters cost on a device, merged and not, in prefill and decode, with 95 % intervals."""
    from adaptare.campaign import measure
    from adaptare.devices import InputError
    from adaptare.overhead_grid import Case, check_figure, draw, grid, read_ranks, row_of, slopes, workloads_of
    from adaptare.profiler import Store, Workload, open_model, precise_within, programs_for, read_peft
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    if prefill <= 0 and decode < 0:
        raise InputError("nothing is left to measure; give -p above 0 or -d at least 0")
    check_figure(figure)
    target = target_of(device)
    programs = programs_for(target.device.info(), cache=cache)
    openings, seconds = target.pace((5, 20.0), openings, seconds)
    ranks = read_ranks(rank)
    if ranks[0] == 0 and not target.device.info().runtime.startswith("onnxruntime"):
        raise InputError("--rank must be at least 1, not 0; only a graph of ONNX Runtime can be open without adapter")
    shape = open_model(model, cache=cache).shape
    if adapter:
        config = read_peft(adapter, shape)
        cases = [Case(str(adapter), max(config.by_path.values()), config)]
    else:
        cases = grid(shape, ranks, sites or [])
    base = Workload(shape, batch=batch, tokens=max(1, prefill), past=max(0, decode), quantisation=target.quantisation)
    phases = [replace(base, phase="prefill")] * (prefill > 0) + [replace(base, phase="decode")] * (decode >= 0)
    wanted = [workloads_of(phase, cases, programs) for phase in phases]
    kept = Store(store)
    measured = [
        (case_of[each.workload], each)
        for case_of in wanted
        for each in measure(
            list(case_of),
            device=target.device,
            rule=precise_within(half_width, seconds),
            seconds=seconds,
            seed=seed,
            openings=openings,
            store=kept,
            console=console,
            title=f"measuring {next(iter(case_of)).phase}",
            programs=programs,
            stubs=stubs,
        )
    ]
    found = [(case, each) for case, each in measured if not each.failure]
    rows = [row_of(case, each) for case, each in found]
    console.table(
        f"{model} on {target.name}: adapters on {len(shape.sites)} linears or some of them",
        ["phase", "adapter", "mode", "base ms", "with adapter ms", "overhead", "95 % interval", "verdict"],
        [_cells(row) for row in rows],
    )
    lines = [
        slope for phase in phases for slope in slopes([each for each in found if _swappable(each[1].workload, phase)])
    ]
    for slope in lines:
        console.say(_said(slope))
    if figure:
        draw(rows, figure, title=f"{model} on {target.name}")
        console.say(f"drawn: {figure}")
    console.result(
        {
            "model": model,
            "device": target.device.info().device,
            "quantisation": target.quantisation,
            "rows": [asdict(row) for row in rows],
            "slopes": [asdict(slope) for slope in lines],
            "failures": [
                {
                    "phase": each.workload.phase,
                    "placement": case.placement,
                    "rank": case.rank,
                    "mode": each.workload.mode,
                    "reason": each.failure,
                }
                for case, each in measured
                if each.failure
            ],
        }
    )
    if len(rows) < len(measured):
        raise typer.Exit(WORLD_FAILED)


def _swappable(workload: "Workload", phase: "Workload") -> bool:
    return workload.mode == "swappable" and workload.phase == phase.phase


def _said(slope: "Slope") -> str:
    what = "one more rank on every site" if slope.per == "rank" else "one more adapted linear"
    ends = between(f"{1e6 * slope.lower_s:.1f}", f"{1e6 * slope.upper_s:.1f}")
    return f"{slope.phase}, {slope.placement}: {what} adds {1e6 * slope.seconds:.1f} us {ends}"


def _cells(row: "Row") -> list[str]:
    return [
        f"{row.phase} {row.length}",
        f"{row.placement} r{row.rank}",
        row.mode,
        milliseconds(row.base_s),
        milliseconds(row.latency_s),
        percent(row.overhead),
        between(percent(row.overhead_lower), percent(row.overhead_upper)),
        row.verdict,
    ]
