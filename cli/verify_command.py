"""`adaptare verify`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import CacheOption, HalfWidthOption, JsonOption, SeedOption, StoreOption
from adaptare.console import ANSWER_IS_NO, Console, command


@command
def verify(
    front: Annotated[Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote.")],
    device: Annotated[
        str | None, typer.Option("--device", help="Where to measure.", show_default="the predictor's device")
    ] = None,
    half_width: HalfWidthOption = 0.005,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="At most so long per opening.", show_default="40; ONNX Runtime 13"),
    ] = None,
    openings: Annotated[
        int | None,
        typer.Option(
            "--openings",
            help="How often every program is loaded anew, at most.",
            min=1,
            show_default="4; ONNX Runtime 12",
        ),
    ] = None,
    store: StoreOption = "adaptare.db",
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measures the winners of a search and its baselines; exit code 1 if no winner is within the budget."""
    from adaptare.predictor import load_predictor
    from adaptare.profiler import Store, programs_for
    from adaptare.selection import load_selection
    from adaptare.target import named_target
    from adaptare.verification import show_verified, verified_to_json, verify_choices

    console = Console(as_json=as_json)
    selection, _, predictor = load_selection(front)
    fitted = load_predictor(predictor)
    target = named_target(device, fitted.model.device, fitted.template)
    info = target.device.info()
    load_predictor(predictor, device=info)
    openings, seconds = target.pace((4, 40.0), openings, seconds)
    programs = programs_for(info, cache=cache)
    programs.need(fitted.template)
    verified = verify_choices(
        [*selection.winners, *selection.baselines],
        fitted.template,
        device=target.device,
        half_width=half_width,
        seconds=seconds,
        openings=openings,
        seed=seed,
        store=Store(store),
        console=console,
        # Seconds of a base that was composed are not those of one that is measured.
        reference_s=None if "composed" in selection.origin else selection.base_s,
        programs=programs,
    )
    winners, others = verified[: len(selection.winners)], verified[len(selection.winners) :]
    show_verified(winners, others, selection, console)
    console.say(f"next: adaptare export {front} --winner 1 --output FOLDER")
    content = verified_to_json(winners, others, selection)
    console.result({"device": info.device, "phase": fitted.template.phase, **content})
    if not any(each.meets(selection.budget_s) for each in winners):
        console.note(f"no winner was measured within {selection.budget}; profile more, or search with a lower budget")
        raise typer.Exit(ANSWER_IS_NO)
