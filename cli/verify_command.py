"""`adaptare verify`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import HalfWidthOption, JsonOption, SeedOption, StoreOption
from adaptare.console import ANSWER_IS_NO, Console, command


@command
def verify(
    front: Annotated[Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote.")],
    device: Annotated[
        str | None, typer.Option("--device", help="Where to measure.", show_default="the predictor's device")
    ] = None,
    half_width: HalfWidthOption = 0.005,
    seconds: Annotated[float, typer.Option("--seconds", help="At most so long per opening.")] = 40.0,
    openings: Annotated[int, typer.Option("--openings", help="How often every program is loaded anew.", min=1)] = 4,
    store: StoreOption = "adaptare.db",
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measures the winners of a search and its baselines; exit code 1 if no winner is within the budget."""
    from adaptare.predictor import load_predictor
    from adaptare.profiler import Store
    from adaptare.selection import load_selection
    from adaptare.target import named_target
    from adaptare.verification import show_verified, verified_to_json, verify_choices

    console = Console(as_json=as_json)
    selection, _, predictor = load_selection(front)
    fitted = load_predictor(predictor)
    target = named_target(device, fitted.model.device, fitted.template)
    load_predictor(predictor, device=target.info())
    verified = verify_choices(
        [*selection.winners, *selection.baselines],
        fitted.template,
        device=target,
        half_width=half_width,
        seconds=seconds,
        openings=openings,
        seed=seed,
        store=Store(store),
        console=console,
        reference_s=selection.base_s,
    )
    winners, others = verified[: len(selection.winners)], verified[len(selection.winners) :]
    show_verified(winners, others, selection, console)
    console.say(f"next: adaptare export {front} --winner 1 --output FOLDER")
    content = verified_to_json(winners, others, selection)
    console.result({"device": target.info().device, "phase": fitted.template.phase, **content})
    if not any(each.meets(selection.budget_s) for each in winners):
        console.note(f"no winner was measured within {selection.budget}; profile more, or search with a lower budget")
        raise typer.Exit(ANSWER_IS_NO)
