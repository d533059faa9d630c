from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import command, console, requested


@command
def profile(
    model: arguments.ModelArgument,
    device: arguments.DeviceOption = arguments.DEFAULT_DEVICE,
    space: Annotated[str, typer.Option("--space", help=arguments.SPACE_HELP)] = "sites",
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
    half_width: arguments.HalfWidthOption = 0.01,
    seconds: arguments.SecondsOption = 120.0,
    openings: arguments.OpeningsOption = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            "--minutes", help="Start no further measurement after this many minutes.", show_default="no limit"
        ),
    ] = None,
    until_error: Annotated[
        float | None,
        arguments.share_option(
            "--until-error",
            "Stop once a predictor has this mean absolute error on held-out adapters; else exit code 1.",
        ),
    ] = None,
    quantities: Annotated[
        list[str] | None,
        typer.Option("--quantity", help="Measure this too, such as energy; repeatable.", show_default="latency"),
    ] = None,
    recalibrate: arguments.RecalibrateOption = False,
    stubs: arguments.StubsOption = False,
    store: arguments.StoreOption = arguments.DEFAULT_STORE,
    cache: arguments.CacheOption = None,
    seed: arguments.SeedOption = 0,
) -> int:
    """Measures configurations of a space into the store.

    The same command again measures only what is missing.
    """
    from adaptare.inputs import read_phase, whole_numbers
    from adaptare.views import profile_adapters as view
    from adaptare.workflows.profiling.space_report import ProfileRequest, profile_space

    phase, length = read_phase(prefill, decode)
    chosen = None if ranks is None else whole_numbers(ranks, "--rank")
    request = requested(ProfileRequest, ranks=chosen, phase=phase, length=length)
    return console().show(profile_space(request, feedback=console().feedback), view.sections, view.exit_code)
