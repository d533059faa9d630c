from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from adaptare.arguments import CacheOption, DataOption, DeviceOption, ModelArgument, SeedOption
from adaptare.console import command, console, requested

# Adapters weigh most on a base of 4-bit weights, and merging is not free there.
DEVICE: Final = "ort-cpu:int4,threads=1"
# Fields of the request of the demo, and of both commands with --quick.
DEMO: Final[Mapping[str, Any]] = {
    "configurations": 28,
    "seconds": 60.0,
    "steps": 36,
    "train_s": 120.0,
    "gradient_examples": 24,
    "held_out": 24,
}
QUICK: Final[Mapping[str, Any]] = {
    "configurations": 16,
    "half_width": 0.01,
    "seconds": 40.0,
    "steps": 30,
    "train_s": 60.0,
    "gradient_examples": 12,
    "held_out": 18,
}
QuickOption = Annotated[bool, typer.Option("--quick", help="Fewer adapters, steps and examples.")]
BudgetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        help="decode=20ms, prefill@256=120ms, overhead=5% or memory=400MB; several are all met.",
        show_default="half of the way from the base to rank 16 everywhere",
    ),
]


@command
def tune(
    model: ModelArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all results; resumed if begun.")],
    data: DataOption = None,
    device: DeviceOption = DEVICE,
    budgets: BudgetsOption = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="Training steps, and of the best winners alone.", show_default="150"),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Longer examples are cut.")] = 64,
    held_out: Annotated[
        int | None, typer.Option("--held-out", min=1, help="Examples to validate, and to test.", show_default="400")
    ] = None,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Train and search in bfloat16; adapters stay in float32.")
    ] = False,
    quick: QuickOption = False,
    cache: CacheOption = None,
    seed: SeedOption = 0,
) -> int:
    """Exports an adapter within a budget, from model and data.

    It profiles, fits, trains, searches, verifies, trains again and exports. Each step is that of the command of its
    name. The same command goes on after an interruption at any time.
    """
    given = {name: value for name, value in {"steps": steps, "held_out": held_out}.items() if value is not None}
    return _run({**(QUICK if quick else {}), **given})


@command
def demo(
    quick: QuickOption = False,
    model: Annotated[str, typer.Option("--model", help="Any model with weights.")] = "smollm2-135m",
    device: DeviceOption = DEVICE,
    budgets: BudgetsOption = None,
    data: DataOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of all results.")] = Path("adaptare-demo"),
    cache: CacheOption = None,
    seed: SeedOption = 0,
) -> int:
    """The whole path of `tune` on a 135M model, in 10 minutes."""
    return _run(QUICK if quick else DEMO)


def _run(pace: Mapping[str, Any]) -> int:
    from adaptare.report_files import report_folder
    from adaptare.search import read_budget
    from adaptare.views import tune as view
    from adaptare.workflows.tuning import tune as run
    from adaptare.workflows.tuning_request import TuneRequest

    request = requested(TuneRequest, **pace)
    request = replace(request, budgets=[read_budget(str(each)) for each in request.budgets])
    code = console().show(run(request, feedback=console().feedback_with(view.sections)), view.sections, view.exit_code)
    report_folder(request.output, console())
    return code
