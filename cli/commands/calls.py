from pathlib import Path
from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import command, console, requested

SitesOption = Annotated[
    str | None, typer.Option("--sites", help="Kinds of linears, for example q_proj,v_proj.", show_default="all")
]


@command
def operators(
    model: arguments.ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="The same on every chosen site.", show_default="16")
    ] = None,
    sites: SitesOption = None,
    prefill: arguments.PrefillOption = None,
    decode: arguments.DecodeOption = None,
    batch: arguments.BatchOption = 1,
    mode: arguments.ModeOption = "swappable",
    device: arguments.DeviceOption = arguments.DEFAULT_DEVICE,
    calls: Annotated[int, typer.Option("--calls", help="Profiled calls in each of three repetitions.", min=1)] = 20,
    cache: arguments.CacheOption = None,
) -> int:
    """Time of a call by operator, without an adapter and with it."""
    from adaptare.inputs import check_alone, read_phase
    from adaptare.views import calls as view
    from adaptare.workflows.profiling.calls import CallRequest, report_operators

    phase, length = read_phase(prefill, decode)
    check_alone(adapter, rank=rank is not None, sites=sites)
    request = requested(CallRequest, phase=phase, length=length)
    return console().show(report_operators(request, calls=calls, feedback=console().feedback), view.operator_sections)


@command
def parts(
    model: arguments.ModelArgument,
    adapter: Annotated[
        Path | None, typer.Argument(help="A PEFT adapter folder.", show_default="--rank; without both, the base")
    ] = None,
    rank: Annotated[int, typer.Option("--rank", help="The same on every chosen site; 0: no adapter.", min=0)] = 0,
    sites: SitesOption = None,
    prefill: arguments.PrefillOption = None,
    decode: arguments.DecodeOption = None,
    batch: arguments.BatchOption = 1,
    mode: arguments.ModeOption = "swappable",
    device: arguments.DeviceOption = arguments.DEFAULT_DEVICE,
    half_width: arguments.HalfWidthOption = 0.01,
    seconds: arguments.SecondsOption = 60.0,
    openings: arguments.OpeningsOption = None,
    cache: arguments.CacheOption = None,
    seed: arguments.SeedOption = 0,
) -> int:
    """Latency of blocks and head alone, caches cold and hot.

    The difference of their sum from the whole model is measured too.
    """
    from adaptare.core import InputError
    from adaptare.inputs import check_alone, read_phase
    from adaptare.profiler import precise_within
    from adaptare.views import calls as view
    from adaptare.workflows.profiling.calls import CallRequest, report_parts

    phase, length = read_phase(prefill, decode)
    check_alone(adapter, rank=rank, sites=sites)
    if not (adapter or rank) and (sites or mode != "swappable"):
        raise InputError(
            "--sites and --mode say where and how an adapter is applied, and there is none; name one, or give --rank"
        )
    request = requested(CallRequest, phase=phase, length=length)
    stop = precise_within(half_width, seconds, openings)
    return console().show(report_parts(request, stop=stop, seed=seed, feedback=console().feedback), view.part_sections)
