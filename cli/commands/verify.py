from pathlib import Path
from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import command, console, requested


@command
def verify(
    front: Annotated[Path, typer.Argument(metavar="FRONT", help="What adaptare search wrote.")],
    device: Annotated[
        str | None, typer.Option("--device", help="Where to measure.", show_default="the predictor's device")
    ] = None,
    half_width: arguments.HalfWidthOption = 0.005,
    seconds: arguments.SecondsOption = 120.0,
    openings: arguments.OpeningsOption = None,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            help="Maximum number of further measurements, as long as a winner is ambiguous, each as long as the first.",
            min=0,
        ),
    ] = 3,
    recalibrate: arguments.RecalibrateOption = False,
    store: arguments.StoreOption = arguments.DEFAULT_STORE,
    cache: arguments.CacheOption = None,
    seed: arguments.SeedOption = 0,
) -> int:
    """Measures the winners of a search on the device.

    Its baselines are measured in the same session. A winner has met the budget if its whole interval lies within it,
    and missed it if the whole interval lies above; otherwise it is ambiguous, and all are measured longer. A budget in
    milliseconds is compared with those of this session. Exit code 0: a winner met the budget; else 3: a winner could
    not be measured; 4: a winner is still ambiguous; 1: all missed it.
    """
    from adaptare.profiler import precise_within
    from adaptare.views import verify as view
    from adaptare.workflows import verification

    request = requested(verification.VerifyRequest, stop=precise_within(half_width, seconds, openings))
    return console().show(verification.verify(request, feedback=console().feedback), view.sections, view.exit_code)
