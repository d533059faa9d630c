from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from adaptare.arguments import CacheOption, DataOption, DeviceOption, JsonOption, SeedOption
from adaptare.console import Console, command, requested

# Adapters weigh most on a base of 4-bit weights, and merging is not free there.
DEVICE: Final = "ort-cpu:int4,threads=1"
# Fields of the request with --quick.
QUICK: Final[Mapping[str, Any]] = {
    "configurations": 16,
    "half_width": 0.01,
    "seconds": 40.0,
    "steps": 30,
    "train_s": 60.0,
    "gradient_examples": 12,
    "held_out": 18,
}


@command
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer adapters, steps and examples.")] = False,
    model: Annotated[str, typer.Option("--model", help="Any model with weights.")] = "smollm2-135m",
    device: DeviceOption = DEVICE,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", help="For decode.", show_default="half of the way from the base to rank 16 everywhere"
        ),
    ] = None,
    data: DataOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all results.")] = Path("adaptare-demo"),
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> int:
    """The whole path on a real 135M model: profile, fit, train, search under a budget, measure again, export."""
    from adaptare.core import InputError
    from adaptare.profiler import Workload
    from adaptare.search import read_budget
    from adaptare.views import demo as view
    from adaptare.workflows.demonstration import DemoRequest, demonstrate

    console = Console(as_json=as_json)
    wanted = read_budget(budget) if budget else None
    if wanted and (wanted.name not in ("decode", "overhead") or wanted.length not in (None, Workload.past)):
        raise InputError(
            f"budget {wanted}: the demo predicts decode at {Workload.past} cached positions; "
            "give decode=20ms or overhead=5%"
        )
    request = requested(DemoRequest, budget=wanted)
    request = replace(request, **QUICK) if quick else request
    return console.show(demonstrate(request, feedback=console.feedback_with(view)), view)
