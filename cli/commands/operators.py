"""`adaptare operators`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import Console, command

DEFAULT_RANK = 16


@command
def operators(
    model: arguments.ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="The same on every chosen site.", show_default=str(DEFAULT_RANK))
    ] = None,
    sites: Annotated[
        str | None, typer.Option("--sites", help="Kinds of linears, for example q_proj,v_proj.", show_default="all")
    ] = None,
    prefill: arguments.PrefillOption = None,
    decode: arguments.DecodeOption = None,
    batch: arguments.BatchOption = 1,
    mode: arguments.ModeOption = "swappable",
    device: arguments.DeviceOption = arguments.DEFAULT_DEVICE,
    calls: Annotated[int, typer.Option("--calls", help="Profiled calls in each of three repetitions.", min=1)] = 20,
    cache: arguments.CacheOption = None,
    as_json: arguments.JsonOption = False,
) -> int:
    """Time of a call by operator, without an adapter and with it."""
    from adaptare.inputs import check_alone, read_phase
    from adaptare.profiler import Workload, open_model, programs_for
    from adaptare.views import operators as view
    from adaptare.workflows.grid import case_of
    from adaptare.workflows.profiling.operators_report import report_operators
    from adaptare.workflows.target import target_of

    console = Console(as_json=as_json)
    phase, length = read_phase(prefill, decode)
    check_alone(adapter, rank=rank is not None, sites=sites)
    target = target_of(device)
    programs = programs_for(target.device.info(), cache=cache)
    shape = open_model(model, cache=cache).shape
    case = case_of(shape, adapter, rank=DEFAULT_RANK if rank is None else rank, placement=sites)
    at = Workload(shape, mode=mode, phase=phase, tokens=length, past=length, batch=batch, **target.weights)
    console.note("calling with and without the runtime's profiler, interleaved")
    return console.show(report_operators(model, case, at, target, calls=calls, programs=programs), view)
