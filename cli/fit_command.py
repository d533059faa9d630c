"""`adaptare fit`."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptare.arguments import DEFAULT_DEVICE, DeviceOption, JsonOption, StoreOption
from adaptare.console import Console, command

if TYPE_CHECKING:
    from adaptare.predictor import LatencyPredictor
    from adaptare.profiler import Measurement, Workload


@command
def fit(
    device: DeviceOption = DEFAULT_DEVICE,
    store: StoreOption = "adaptare.db",
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
    figure: Annotated[
        Path | None,
        typer.Option("--figure", help="Draws predicted over measured, in the format that the name ends in."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Learns latency from what was measured on a device, judges the fit, and writes it to two files."""
    from adaptare.figure_file import check_figure
    from adaptare.predictor import LatencyPredictor, load_predictor, save_predictor
    from adaptare.profiler import Store, device_to_json
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    check_figure(figure)
    target = target_of(device)
    info = target.device.info()
    measured = [
        each
        for each in Store(store, create=False).measurements(info)
        if each.complete
        and (each.workload.quantisation, each.workload.dtype) == (target.quantisation, target.dtype)
        and each.workload.adapter.kind == "lora"
    ]
    asked = {"phase": phase, "mode": mode, "length": length, "open": every_site}
    rows = _of_one_kind(
        measured, store, target.name, {name: value for name, value in asked.items() if value is not None}
    )
    other = load_predictor(source) if source else None
    predictor = LatencyPredictor().fit(rows, source=other)
    words = [str(length)] * (length is not None) + target.words + ["open"] * bool(every_site)
    base = output or Path("-".join(["predictor", predictor.template.phase, *words]))
    files = save_predictor(predictor, base)
    show_error_card(predictor, console)
    if figure:
        from adaptare.parity_figure import draw_parity

        draw_parity(predictor, figure, title=f"{predictor.template.describe()} on {target.name}")
        console.say(f"drawn: {figure}")
    if predictor.error_card.sessions == 1:
        console.note("all of it was measured in one session, so the intervals do not know what another one changes")
    if other and predictor.chosen != "transferred":
        console.note(f"{source} did not help on adapters left out, so nothing of it is in this predictor")
    console.say(f"written: {files[0]} and {files[1]}; next: adaptare predict {base} ADAPTER")
    console.result(
        {
            "predictor": str(base),
            "device": device_to_json(info),
            **target.weights,
            "phase": predictor.template.phase,
            "length": predictor.template.length,
            "mode": predictor.template.mode,
            "open": predictor.template.open,
            "chosen": predictor.chosen,
            "reason": predictor.reason,
            "source": device_to_json(predictor.model.source) if predictor.model.source else None,
            **asdict(predictor.error_card),
        }
    )


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
        f"error {card.mape:.2f} % of latency; rank correlation {card.kendall_tau:.2f}; intervals ±"
        f"{card.half_width_points:.2f} points held {card.coverage:.0%} of what was measured"
    )


def _counted(count: int, of: str) -> str:
    return f"{count} {of}{'s' * (count != 1)}"


def _of_one_kind(
    measured: "list[Measurement]", store: str, device: str, asked: "Mapping[str, object]"
) -> "list[Measurement]":
    from adaptare.devices import InputError
    from adaptare.predictor import FEWEST_ROWS, LEVEL, rows_needed
    from adaptare.profiler import AdapterConfig

    kinds: dict[tuple[Workload, str], list[Measurement]] = {}
    for each in measured:
        # A grid of `overhead` may have rank 0 on some sites, of which predictors know nothing.
        if 0 in each.workload.adapter.by_path.values() and not each.workload.open:
            continue
        kinds.setdefault((each.workload.with_adapter(AdapterConfig()), each.reference.hash), []).append(each)
    for (bare, reference), rows in kinds.items():
        if bare.open:  # where an adapter is on every site, all are open anyway
            cut = kinds.get((replace(bare, adapter=AdapterConfig()), reference), [])
            rows.extend(each for each in cut if len(each.workload.adapter) == len(bare.adapter))
    kinds = {
        (bare, reference): rows
        for (bare, reference), rows in kinds.items()
        if all(getattr(bare, name) == value for name, value in asked.items())
    }
    # A folded adapter runs as its base does; few of them stand beside others as a check and are no campaign.
    swappable = {key: rows for key, rows in kinds.items() if not rows[0].workload.in_weights}
    kinds = swappable or kinds
    if not kinds:
        kind = "".join(f"{asked[name]} " for name in ("phase", "mode") if name in asked)
        which = [f" of length {asked.get('length')}"] * ("length" in asked)
        which += [" with every site open" if asked.get("open") else " of cut graphs"] * ("open" in asked)
        raise InputError(
            f"{store} has no {kind}measurements{''.join(which)} on {device}; measure some with: adaptare profile"
        )
    # A few rows of another kind, left by `adaptare overhead`, are no campaign.
    least = max(FEWEST_ROWS, rows_needed(LEVEL))
    campaigns = {
        (bare, reference): rows
        for (bare, reference), rows in kinds.items()
        if len({each.workload.hash for each in rows}) >= least
        and 2 * sum(each.workload.open == bare.open for each in rows) > len(rows)
    }
    kinds = campaigns if len(campaigns) == 1 else kinds
    if len(kinds) > 1:
        names = "; ".join(f"{rows[0].workload.describe()} ({len(rows)} rows)" for rows in kinds.values())
        raise InputError(
            f"{store} has several kinds of measurements: {names}; choose with --phase, --mode, --length, "
            "--open or --cut, or --store"
        )
    return next(iter(kinds.values()))
