from pathlib import Path
from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import Console, command, requested


@command
def operators(
    model: arguments.ModelArgument,
    adapter: Annotated[Path | None, typer.Argument(help="A PEFT adapter folder; else --rank and --sites.")] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", help="The same on every chosen site.", show_default="16")
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
    from adaptare.views import operators as view
    from adaptare.workflows.profiling.calls import CallRequest, report_operators

    console = Console(as_json=as_json)
    phase, length = read_phase(prefill, decode)
    check_alone(adapter, rank=rank is not None, sites=sites)
    request = requested(CallRequest, phase=phase, length=length)
    return console.show(report_operators(request, calls=calls, feedback=console.feedback), view.sections)
