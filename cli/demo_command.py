"""`adaptare demo`."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adaptare.arguments import DEFAULT_DEVICE, CacheOption, DataOption, DeviceOption, JsonOption, SeedOption
from adaptare.console import ANSWER_IS_NO, Console, command, refuse
from adaptare.pace import DEMO, QUICK_DEMO

if TYPE_CHECKING:
    from adaptare.demonstration import Effort, Outcome


@command
def demo(
    quick: Annotated[
        bool, typer.Option("--quick", help="At most 6 minutes on 2 cores, in ONNX Runtime 8, instead of 15.")
    ] = False,
    model: Annotated[str, typer.Option("--model", help="Any model with weights.")] = "smollm2-135m",
    device: DeviceOption = DEFAULT_DEVICE,
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
) -> None:
    """The whole path on a real 135M model: profile, fit, train, search under a budget, measure again, export."""
    from adaptare.demonstration import Demonstration
    from adaptare.devices import InputError
    from adaptare.profiler import Workload
    from adaptare.search import MEDIAN, InfeasibleBudgetError, read_budget
    from adaptare.target import target_of
    from adaptare.verification import conclude, show_verified

    console = Console(as_json=as_json)
    wanted = read_budget(budget) if budget else None
    if wanted and (
        wanted.quantity not in ("decode", "overhead")
        or wanted.percentile != MEDIAN
        or wanted.length not in (None, Workload.past)
    ):
        raise InputError(
            f"budget {wanted}: the demo predicts medians of decode at {Workload.past} cached positions; "
            "give decode=20ms or overhead=5%"
        )
    target = target_of(device)
    demonstration = Demonstration(output, _effort(quick=quick), target=target, seed=seed, console=console)
    try:
        outcome = demonstration.run(model, budget=wanted, data=data, cache=cache)
    except InfeasibleBudgetError as error:
        refuse(str(error))
        raise typer.Exit(ANSWER_IS_NO) from error
    show_verified(outcome.winners, outcome.baselines, outcome.selection, console)
    within = [number for number, each in enumerate(outcome.winners, start=1) if each.meets(outcome.selection)]
    for line in _closing(outcome, demonstration.front, model, device, winner=within[0] if within else 1):
        console.say(line)
    place = {"device": target.device.info().device, **target.weights}
    console.result({"model": model, **place, "phase": "decode", **_to_json(outcome)})
    if code := conclude(outcome.winners, outcome.selection, console):
        raise typer.Exit(code)


def _effort(*, quick: bool) -> "Effort":
    """The size of every step that fits into the time."""
    from adaptare.demonstration import Effort

    return Effort(16, QUICK_DEMO, 30, 60.0, 18, 18) if quick else Effort(32, DEMO, 90, 240.0, 40, 40)


def _to_json(outcome: "Outcome") -> dict[str, Any]:
    from adaptare.verification import verified_to_json

    content = verified_to_json(outcome.winners, outcome.baselines, outcome.selection)
    for row, folder, difference in zip(content["winners"], outcome.exports, outcome.export_differences, strict=True):
        row.update(export=str(folder), export_difference=difference)
    trained, full = outcome.trained, outcome.full
    return {
        **content,
        "full_s": full.latency_s,
        "full_lower_s": full.lower_s,
        "full_upper_s": full.upper_s,
        "full_folded_s": outcome.full_folded.latency_s,
        "predictor": {"chosen": outcome.predictor.chosen, **asdict(outcome.predictor.error_card)},
        "training": {"steps": trained.steps, "base_loss": trained.base_loss, "full_loss": trained.full_loss},
        "onnx": {"folder": str(outcome.onnx_export), "difference": outcome.onnx_difference}
        if outcome.onnx_export
        else None,
        "elapsed_s": outcome.elapsed_s,
    }


def _of_onnx(outcome: "Outcome") -> list[str]:
    if outcome.onnx_export is None or outcome.onnx_difference is None:
        return []
    said = f"its logits differ by at most {outcome.onnx_difference:.0e} of the largest from torch's"
    return [f"For ONNX Runtime, a model and the adapter that it swaps in: {outcome.onnx_export}; {said}"]


def _closing(outcome: "Outcome", front: Path, model: str, device: str, *, winner: int) -> list[str]:
    largest = max(outcome.export_differences)
    return [
        f"Stock PEFT loads every winner; its logits differ by at most {largest:.0e} from the super-adapter's.",
        f"Adapters: {', '.join(str(folder) for folder in outcome.exports)}",
        *_of_onnx(outcome),
        f"All of it took {outcome.elapsed_s / 60:.1f} minutes. What to run next:",
        f"  adaptare overhead {model} --rank 16 --device {device}        what an adapter costs, in prefill and decode",
        f"  adaptare verify {front}        measure the winners once more",
        f"  adaptare export {front} --winner {winner} --to merged -o FOLDER        a plain model for transformers",
        "  adaptare profile --help        your own model, space and device",
    ]
