"""`adaptare profile`."""

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from adaptare import arguments
from adaptare.console import Console, command
from adaptare.pace import PROFILE

if TYPE_CHECKING:
    from adaptare.profiler import Workload


@command
def profile(
    model: arguments.ModelArgument,
    device: arguments.DeviceOption = arguments.DEFAULT_DEVICE,
    space: Annotated[
        str | None,
        typer.Option("--space", help=arguments.SPACE_HELP, show_default="blocks; with --stubs sites, in all layers"),
    ] = None,
    ranks: arguments.RanksOption = None,
    count: Annotated[int, typer.Option("--count", help="Number of configurations; all of a smaller space.")] = 40,
    prefill: arguments.PrefillOption = None,
    decode: arguments.DecodeOption = None,
    batch: arguments.BatchOption = 1,
    mode: arguments.ModeOption = "swappable",
    every_site: Annotated[
        bool,
        typer.Option(
            "--open",
            help="One graph in which every site (linear that may carry an adapter) takes one; unused sites get rank 0.",
        ),
    ] = False,
    half_width: arguments.HalfWidthOption = PROFILE.half_width,
    seconds: arguments.SecondsOption = PROFILE.seconds,
    openings: arguments.OpeningsOption = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", help="Start no further measurement after this many minutes.", show_default="no limit"
        ),
    ] = None,
    until_error: Annotated[
        float | None,
        typer.Option(
            "--until-error",
            parser=arguments.per_cent,
            metavar="PER CENT",
            help="Stop once a predictor has this mean absolute error on held-out adapters; else exit code 1.",
        ),
    ] = None,
    recalibrate: arguments.RecalibrateOption = False,
    stubs: arguments.StubsOption = False,
    store: arguments.StoreOption = arguments.DEFAULT_STORE,
    cache: arguments.CacheOption = None,
    seed: arguments.SeedOption = 0,
    as_json: arguments.JsonOption = False,
) -> int:
    """Measures configurations of a space into the store; the same command again measures only what is missing."""
    from adaptare.core import InputError
    from adaptare.inputs import read_phase, whole_numbers
    from adaptare.profiler import Store, Workload, open_model, precise_within, programs_for
    from adaptare.workflows.profiling.campaign import Campaign
    from adaptare.workflows.profiling.space_report import measure_space, workloads_of_space
    from adaptare.workflows.spaces import space_of
    from adaptare.workflows.target import target_of

    console = Console(as_json=as_json)
    target = target_of(device)
    phase, length = read_phase(prefill, decode)
    if minutes is not None and not minutes > 0:
        raise InputError(f"--minutes must be above 0, not {minutes}; leave it out to measure everything")
    if until_error == 0:
        raise InputError("--until-error must be above 0 %: every predictor has some error; give for example 2%")
    target_error = None if until_error is None else 100 * until_error
    shape = open_model(model, cache=cache).shape
    name = space or ("sites" if stubs else arguments.DEFAULT_SPACE)
    numbers = None if ranks is None else whole_numbers(ranks, "--rank")
    chosen = space_of(name, shape, ranks=numbers, layers_alike=stubs)
    template = Workload(
        shape,
        mode=mode,
        phase=phase,
        batch=batch,
        tokens=length,
        past=length,
        graph="open" if every_site else "cut",
        **target.weights,
    )
    programs = programs_for(target.device.info(), cache=cache)
    workloads = workloads_of_space(template, chosen, count=count, seed=seed, programs=programs, note=console.note)
    if every_site and not any(workload.graph == "open" for workload in workloads):
        raise InputError("every adapter of this space is on every site, so all are open anyway; leave out --open")
    campaign = Campaign(
        target.device,
        programs,
        stop=precise_within(half_width, seconds, openings),
        store=Store(store),
        seed=seed,
        recalibrate=recalibrate,
        stubs=stubs,
        feedback=console.feedback,
    )
    strategy = None
    if target_error is not None:
        from adaptare.predictor import measure_until

        strategy = partial(measure_until, error=target_error, note=console.note)
    report = measure_space(
        template,
        workloads,
        campaign,
        model=model,
        target=target,
        limit_s=None if minutes is None else 60 * minutes,
        strategy=strategy,
        error_wanted=target_error,
    )
    code = console.show(report)
    chosen_by = _chosen(template, model, device, campaign.store.location, only=report.alone)
    console.section(f"next: {shlex.join(['adaptare', 'fit', *chosen_by])}")
    return code


def _chosen(template: "Workload", model: str, device: str, store: str, *, only: bool) -> list[str]:
    """Options that select these rows in `adaptare fit`; fewer if they are the `only` rows of the device."""
    options: list[tuple[str, object]] = [("--device", device)]
    options += [("--store", store)] * (store != arguments.DEFAULT_STORE)
    if not only:
        options += [("-p" if template.phase == "prefill" else "-d", template.length), ("--batch", template.batch)]
        options += [("--mode", template.mode), ("--model", model)]
    cut = [] if only else ["--open" if template.graph == "open" else "--cut"]
    return [*(str(word) for pair in options for word in pair), *cut]
