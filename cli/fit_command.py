"""`adaptare fit`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptare.arguments import (
    DEFAULT_STORE,
    CacheOption,
    JsonOption,
    ReplaceOption,
    StoreOption,
)
from adaptare.console import ANSWER_IS_NO, BAD_INPUT, Console, command, refuse

if TYPE_CHECKING:
    from adaptare.predictor import LatencyPredictor


@command
def fit(
    device: Annotated[
        str | None,
        typer.Option("--device", help="As it was spelled, or its hash.", show_default="the only one in the store"),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    phase: Annotated[
        Literal["prefill", "decode"] | None, typer.Option("--phase", help="If the store holds several.")
    ] = None,
    mode: Annotated[
        Literal["swappable", "static", "padded", "merged", "requantised"] | None,
        typer.Option("--mode", help="If the store holds several."),
    ] = None,
    length: Annotated[
        int | None, typer.Option("--length", help="Tokens or cached positions, if the store holds several.")
    ] = None,
    every_site: Annotated[
        bool | None,
        typer.Option("--open/--cut", help="Whether graphs had every site open, if the store holds both."),
    ] = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Sequences at once, if the store holds several.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="As in adaptare profile, if the store holds several.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Name of the files.", show_default="predictor-PHASE[-LENGTH][-BASE][-open]"
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", help="A predictor of another device or model to begin with; 10 to 20 rows then do."),
    ] = None,
    replace: ReplaceOption = False,
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="Draws predicted over measured, in the format that the name ends in."),
    ] = None,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learns latency from what was measured on a device, judges the fit, and writes it to two files.

    The device need not be at hand: rows that were measured elsewhere are chosen by how it was spelled there, or by the
    hash that `adaptare compare` and error messages show. A predictor that is there already is replaced by one of the
    same kind unless that is expected to be worse (exit code 1), and by others only with --replace.
    """
    from adaptare.figure_file import check_figure, drawn
    from adaptare.fit_rows import Asked, rows_to_fit
    from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
    from adaptare.predictor_name import default_name, predictor_there, why_better
    from adaptare.profiler import device_to_json, open_model

    console = Console(as_json=as_json)
    check_figure(figure)
    shape = open_model(model, cache=cache).shape if model else None
    asked = Asked(phase=phase, mode=mode, length=length, open=every_site, batch=batch, model=shape)
    rows = rows_to_fit(store, device, asked, console)
    info = rows[0].device
    other = load_predictor(source) if source else None
    predictor = LatencyPredictor().fit(rows, source=other)
    template = predictor.template
    base = output or default_name(predictor, length=length, every_site=bool(every_site))
    there = None if replace else predictor_there(predictor, base)
    show_error_card(predictor, console)
    if there and (better := why_better(there, predictor)):
        refuse(f"the predictor {base} is kept: it {better}; write this one with --replace, or elsewhere with --output")
        raise typer.Exit(ANSWER_IS_NO)
    files = save_predictor(predictor, base)
    all_drawn = True
    if figure:
        from adaptare.parity_figure import draw_parity

        title = f"{template.describe()} on {info.device}"
        all_drawn = drawn(partial(draw_parity, predictor, figure, title=title), figure, console)
    if predictor.error_card.sessions == 1:
        console.note(
            "all of it was measured in one session, so the intervals allow for the shift of another as other devices "
            "had it; profile once more in a session of its own to learn that of this device"
        )
    if other and predictor.chosen != "transferred":
        console.note(f"{source} did not help on adapters left out, so nothing of it is in this predictor")
    console.say(f"written: {files[0]} and {files[1]}; next: adaptare predict {base} ADAPTER")
    console.result(
        {
            "predictor": str(base),
            "device": device_to_json(info),
            "quantisation": template.quantisation,
            "dtype": template.dtype,
            "phase": template.phase,
            "length": template.length,
            "mode": template.mode,
            "open": template.open,
            "chosen": predictor.chosen,
            "reason": predictor.reason,
            "source": device_to_json(predictor.model.source) if predictor.model.source else None,
            **asdict(predictor.error_card),
        }
    )
    if not all_drawn:
        raise typer.Exit(BAD_INPUT)


def show_error_card(predictor: "LatencyPredictor", console: Console) -> None:
    """What the predictor is off, beside others."""
    card = predictor.error_card
    of = f"{card.rows} rows of {_counted(card.sessions, 'session')} and {_counted(card.openings, 'opening')}"
    of += f", {card.composed} of them composed from stubs" * bool(card.composed)
    rows = [[f"chosen: {predictor.chosen}", f"{card.mae_overhead_points:.2f}"]]
    rows += [[name, f"{points:.2f}"] for name, points in card.baselines.items()]
    console.table(
        f"Error on adapters left out of the fit ({of})",
        ["predictor", "mean absolute error, points of overhead"],
        rows,
    )
    if predictor.reason:
        console.say(f"{predictor.chosen}: {predictor.reason}")
    console.say(
        f"error {card.mape:.2f} % of latency, at most {card.mape_upper:.2f} %; rank correlation {card.kendall_tau:.2f}"
        f"; intervals ±{card.half_width_points:.2f} points held {card.coverage:.0%} of what was measured"
    )


def _counted(count: int, of: str) -> str:
    return f"{count} {of}{'s' * (count != 1)}"
