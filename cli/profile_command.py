"""`adaptare profile`."""

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adaptare.arguments import (
    DEFAULT_DEVICE,
    DEFAULT_SPACE,
    DEFAULT_STORE,
    SPACE_HELP,
    BatchOption,
    CacheOption,
    DeviceOption,
    HalfWidthOption,
    JsonOption,
    ModelArgument,
    ModeOption,
    OpeningsOption,
    RanksOption,
    RecalibrateOption,
    SecondsOption,
    SeedOption,
    StoreOption,
    StubsOption,
)
from adaptare.console import ANSWER_IS_NO, COMPOSED, WORLD_FAILED, Console, command, milliseconds, percent
from adaptare.pace import PROFILE

if TYPE_CHECKING:
    from adaptare.profiler import Measurement, Origin, Workload


@command
def profile(
    model: ModelArgument,
    device: DeviceOption = DEFAULT_DEVICE,
    space: Annotated[
        str | None, typer.Option("--space", help=SPACE_HELP, show_default="blocks; with --stubs sites, in all layers")
    ] = None,
    ranks: RanksOption = None,
    count: Annotated[int, typer.Option("--count", help="How many configurations.")] = 40,
    phase: Annotated[Literal["prefill", "decode"], typer.Option("--phase", help="What to time.")] = "decode",
    length: Annotated[int, typer.Option("--length", help="Tokens in prefill, cached positions in decode.")] = 64,
    batch: BatchOption = 1,
    mode: ModeOption = "swappable",
    every_site: Annotated[
        bool,
        typer.Option(
            "--open", help="One graph with every site, as where adapters are swapped; unused ones get rank 0."
        ),
    ] = False,
    half_width: HalfWidthOption = PROFILE.half_width,
    seconds: SecondsOption = PROFILE.seconds,
    openings: OpeningsOption = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="Begin nothing after so long.", show_default="all of it")
    ] = None,
    until_error: Annotated[
        str | None,
        typer.Option(
            "--until-error", help="Stop once a predictor is off by so little on others, as 2%; else exit code 1."
        ),
    ] = None,
    recalibrate: RecalibrateOption = False,
    stubs: StubsOption = False,
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measures configurations of a space into the store; the same command again measures only what is missing."""
    from adaptare.campaign import interval_of, measure
    from adaptare.devices import InputError
    from adaptare.inputs import read_error, space_of
    from adaptare.profiler import Store, Workload, design, open_model, precise_within, programs_for
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    target = target_of(device)
    info = target.device.info()
    if length < 1:
        raise InputError(f"--length must be at least 1, not {length}")
    if minutes is not None and not minutes > 0:
        raise InputError(f"--minutes must be above 0, not {minutes}")
    target_error = None if until_error is None else read_error(until_error)
    shape = open_model(model, cache=cache).shape
    chosen = space_of(space or ("sites" if stubs else DEFAULT_SPACE), ranks, shape, layers_alike=stubs)
    template = Workload(
        shape,
        mode=mode,
        phase=phase,
        batch=batch,
        tokens=length,
        past=length,
        **target.weights,
    )
    if every_site:
        template = template.opened
    workloads = [template.with_adapter(chosen.decode(row)) for row in design(chosen, count, seed=seed)]
    if every_site and not any(each.open for each in workloads):
        raise InputError("every adapter of this space is on every site, so all are open anyway; leave out --open")
    precise_within(half_width, seconds)  # says what is wrong with them before anything is written
    programs = programs_for(info, cache=cache)
    for workload in workloads:
        programs.need(workload)
    with_store = Store(store)
    origin: Origin = "composed" if stubs else "measured"
    finished = with_store.finished(info, template.base, origin=origin)
    missing = [workload for workload in workloads if workload.hash not in finished]
    stored = with_store.measurements(info)
    wanted_ones = set(workloads)
    known = [each for each in stored if each.workload in wanted_ones and each.origin == origin]
    if len(missing) < len(workloads):
        console.note(f"{len(workloads) - len(missing)} of {len(workloads)} are in {with_store.location} already")
    started = time.monotonic()

    def measured_now(wanted: Sequence[Workload]) -> "list[Measurement]":
        left_s = None if minutes is None else 60 * minutes - (time.monotonic() - started)
        if not wanted or (left_s is not None and left_s <= 0):
            return []
        return measure(
            list(wanted),
            device=target.device,
            half_width=half_width,
            seconds=seconds,
            seed=seed,
            openings=openings,
            store=with_store,
            console=console,
            title=f"measuring {phase}",
            programs=programs,
            recalibrate=recalibrate,
            stubs=stubs,
            limit_s=left_s,
        )

    error: float | None = None
    if target_error is None:
        measured = measured_now(missing)
    else:
        from adaptare.adaptive import measure_until

        measured, error = measure_until(missing, known, measured_now, error=target_error, console=console)
    if len(measured) < len(missing) and target_error is None:
        left = len(missing) - len(measured)
        console.note(f"{left} of {len(workloads)} are not measured yet; the same command goes on with them")
    rows = [each for each in measured if not each.failure]
    # Read again, because this session may have calibrated the device anew.
    there = [each for each in with_store.measurements(info) if each.workload in wanted_ones and each.origin == origin]
    shown = list({each.workload: each for each in there if each.complete}.values())
    console.table(
        f"{model} on {target.name}, {phase} {length}, {mode}{' open' * every_site}{COMPOSED * stubs}",
        ["sites", "adapter weights", "latency ms", "95 % interval", "overhead"],
        [
            [
                f"{each.workload.adapter.active}",
                f"{each.workload.adapter.adapter_parameters(shape):,}",
                milliseconds(each.latency_s),
                interval_of(each),
                percent(each.overhead.middle),
            ]
            for each in shown
        ],
    )
    only = all(template == each.workload.with_adapter(template.adapter) for each in stored)
    chosen_by = _chosen(template, model, device, with_store.location, only=only)
    console.say(f"next: {shlex.join(['adaptare', 'fit', *chosen_by])}")
    console.result(
        {
            "model": model,
            "device": info.device,
            **target.weights,
            "phase": phase,
            "length": length,
            "mode": mode,
            "open": every_site,
            "store": with_store.location,
            "wanted": len(workloads),
            "already_there": len(workloads) - len(missing),
            "measured": len(rows),
            "rows": [_row(each) for each in shown],
            "failed": len(measured) - len(rows),
            "left": len(missing) - len(measured),
            "seconds": time.monotonic() - started,
            "error_wanted": target_error,
            "error_reached": error,
            "base_s": with_store.calibration(info, template.base, origin=origin),
        }
    )
    if len(rows) < len(measured):
        raise typer.Exit(WORLD_FAILED)
    if target_error is not None and (error is None or error > target_error):
        raise typer.Exit(ANSWER_IS_NO)


def _chosen(template: "Workload", model: str, device: str, store: str, *, only: bool) -> list[str]:
    """Options by which `adaptare fit` finds the rows again; less if there are `only` these rows of the device."""
    said: list[tuple[str, object]] = [("--device", device)]
    said += [("--store", store)] * (store != DEFAULT_STORE)
    if not only:
        said += [("--phase", template.phase), ("--length", template.length), ("--batch", template.batch)]
        said += [("--mode", template.mode), ("--model", model)]
    cut = [] if only else ["--open" if template.open else "--cut"]
    return [*(str(word) for pair in said for word in pair), *cut]


def _row(measurement: "Measurement") -> dict[str, object]:
    return {
        "workload": measurement.workload.hash,
        "sites": measurement.workload.adapter.active,
        "parameters": measurement.workload.adapter.adapter_parameters(measurement.workload.shape),
        "latency_s": measurement.latency_s,
        "lower_s": measurement.lower_s,
        "upper_s": measurement.upper_s,
        "overhead": measurement.overhead.middle,
        "rounds": len(measurement.visits),
        "openings": len(set(measurement.openings.tolist())),
        "within_one_opening": measurement.within_one_opening,
        "trends": measurement.trends,
        "stopped_by": measurement.stopped_by,
        "origin": measurement.origin,
    }
