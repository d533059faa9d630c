"""`adaptare verify`."""

from pathlib import Path
from typing import Annotated

import typer

from adaptare.arguments import (
    DEFAULT_STORE,
    CacheOption,
    HalfWidthOption,
    JsonOption,
    OpeningsOption,
    RecalibrateOption,
    SecondsOption,
    SeedOption,
    StoreOption,
)
from adaptare.console import Console, command, milliseconds
from adaptare.pace import VERIFY


@command
def verify(
    front: Annotated[Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote.")],
    device: Annotated[
        str | None, typer.Option("--device", help="Where to measure.", show_default="the predictor's device")
    ] = None,
    half_width: HalfWidthOption = VERIFY.half_width,
    seconds: SecondsOption = VERIFY.seconds,
    openings: OpeningsOption = None,
    repeats: Annotated[
        int,
        typer.Option("--repeats", help="How often ambiguous winners are measured again, each time as long.", min=0),
    ] = 3,
    recalibrate: RecalibrateOption = False,
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measures the winners of a search and its baselines, and judges them by seconds of this very session.

    A winner has met the budget if its whole interval lies within, missed it if all of it lies above; else it is
    ambiguous, and measured longer. Exit code 0: a winner met the budget; 1: all missed it; 4: none met it, and some are
    still ambiguous.
    """
    from adaptare.devices import InputError
    from adaptare.predictor import load_predictor
    from adaptare.profiler import Store, precise_within, programs_for
    from adaptare.selection import load_selection
    from adaptare.target import named_target
    from adaptare.verification import conclude, show_verified, verified_to_json, verify_choices

    console = Console(as_json=as_json)
    selection, _, predictor = load_selection(front)
    fitted = load_predictor(predictor)
    if fitted.model.reference_s != selection.base_s:
        raise InputError(
            f"{predictor} is not the predictor of this search any more: its base takes "
            f"{milliseconds(fitted.model.reference_s)} ms, that of the search {milliseconds(selection.base_s)} ms; "
            "search again, and give every predictor a name of its own with: adaptare fit --output"
        )
    target = named_target(device, fitted.model.device, fitted.template)
    info = target.device.info()
    load_predictor(predictor, device=info)
    precise_within(half_width, seconds)  # says what is wrong with them before anything is written
    programs = programs_for(info, cache=cache)
    programs.need(fitted.template)
    winners, others = verify_choices(
        selection,
        fitted.template,
        device=target.device,
        half_width=half_width,
        seconds=seconds,
        openings=openings,
        repeats=repeats,
        seed=seed,
        store=Store(store),
        console=console,
        recalibrate=recalibrate,
        programs=programs,
    )
    show_verified(winners, others, selection, console)
    within = [number for number, each in enumerate(winners, start=1) if each.meets(selection)]
    if within:
        console.say(f"next: adaptare export {front} --winner {within[0]} --output FOLDER")
    measured_on = {"device": info.device, "phase": fitted.template.phase, "length": fitted.template.length}
    console.result({**measured_on, **target.weights, **verified_to_json(winners, others, selection)})
    if code := conclude(winners, selection, console):
        raise typer.Exit(code)
