"""`adaptare demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from adaptare.arguments import CacheOption, DataOption, DeviceOption, JsonOption, SeedOption
from adaptare.console import Console, command
from adaptare.pace import DEMO, QUICK_DEMO

if TYPE_CHECKING:
    from adaptare.workflows.demonstration import Effort

# Adapters weigh most on a base of 4-bit weights, and merging is not free there.
DEVICE: Final = "ort-cpu:int4,threads=1"


@command
def demo(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer adapters, steps and evaluations.")] = False,
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
    from adaptare.search.budget.limits import MEDIAN
    from adaptare.views import demo as view
    from adaptare.workflows.demonstration import DemoRequest, demonstrate

    console = Console(as_json=as_json)
    wanted = read_budget(budget) if budget else None
    if wanted and (
        wanted.name not in ("decode", "overhead")
        or wanted.percentile != MEDIAN
        or wanted.length not in (None, Workload.past)
    ):
        raise InputError(
            f"budget {wanted}: the demo predicts medians of decode at {Workload.past} cached positions; "
            "give decode=20ms or overhead=5%"
        )
    request = DemoRequest(
        model,
        output,
        device,
        _effort(quick=quick),
        budget=wanted,
        data=data,
        cache=cache,
        seed=seed,
    )
    return console.show(demonstrate(request, feedback=console.feedback_with(view)), view)


def _effort(*, quick: bool) -> "Effort":
    """Size of every step for the time limit."""
    from adaptare.profiler import precise_within
    from adaptare.workflows.demonstration import Effort

    pace = QUICK_DEMO if quick else DEMO
    stop = precise_within(pace.half_width, pace.seconds)
    return Effort(16, stop, 30, 60.0, 18, 18) if quick else Effort(32, stop, 45, 120.0, 30, 24)
