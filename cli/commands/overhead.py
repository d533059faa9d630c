from pathlib import Path
from typing import Annotated

import typer

from adaptare import arguments
from adaptare.console import command, console, feedback_of, requested

DEFAULT_RANK = "16"


@command
def overhead(
    model: arguments.ModelArgument,
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ADAPTER",
            help="PEFT folders, or .onnx_adapter files; the first is compared with the others.",
            show_default="--rank",
        ),
    ] = None,
    ranks: Annotated[
        str | None,
        typer.Option(
            "--rank",
            help="The same on every chosen site; 1,8,64 for a curve, from 0 in ONNX Runtime.",
            show_default=DEFAULT_RANK,
        ),
    ] = None,
    placements: Annotated[
        list[str] | None,
        typer.Option(
            "--sites", help="Kinds of linears: q_proj,v_proj; repeat it for other placements.", show_default="all"
        ),
    ] = None,
    prompts: Annotated[
        str, typer.Option("-p", "--prefill", help="Tokens of the prompt, such as 64 or 64,512; 0: no prefill.")
    ] = "64",
    depths: Annotated[
        str, typer.Option("-d", "--decode", help="Cached positions in decode, such as 64 or 0,512; -1: no decode.")
    ] = "64",
    generated: Annotated[
        int,
        typer.Option("-n", "--generate", help="Tokens after the first, which a prompt of -p gives; 0: none.", min=0),
    ] = 0,
    tasks: Annotated[
        int,
        typer.Option(
            "--tasks",
            help="Compares merging with swapping for this many adapters: disk, memory and time; 0: no.",
            min=0,
        ),
    ] = 0,
    energy: Annotated[bool, typer.Option("--energy", help="Joules per call, where the device counts them.")] = False,
    batch: arguments.BatchOption = 1,
    devices: arguments.DevicesOption = None,
    half_width: arguments.HalfWidthOption = 0.01,
    band: arguments.BandOption = arguments.DEFAULT_BAND,
    seconds: arguments.SecondsOption = 60.0,
    openings: arguments.OpeningsOption = None,
    recalibrate: arguments.RecalibrateOption = False,
    stubs: arguments.StubsOption = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Take phases that the store has complete instead of measuring them again.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draws overhead over rank, in the format that the name ends in.")
    ] = None,
    report_file: Annotated[
        Path | None, typer.Option("--report", help="Page of the result, with figures, for a browser.")
    ] = None,
    store: arguments.StoreOption = arguments.DEFAULT_STORE,
    cache: arguments.CacheOption = None,
    seed: arguments.SeedOption = 0,
) -> int:
    """Cost of adapters on a device, with 95 % intervals.

    Adapters are measured merged and not, in prefill and decode, interleaved with the base.
    """
    from adaptare.core import InputError
    from adaptare.figures import check_figure, drawn
    from adaptare.inputs import check_alone, read_lengths, read_ranks
    from adaptare.report_files import check_report, reported
    from adaptare.views import overhead as view
    from adaptare.workflows.overhead.overhead import OverheadRequest, measure_overhead
    from adaptare.workflows.overhead.side_by_side import side_by_side

    devices = devices or [arguments.DEFAULT_DEVICE]
    check_alone(adapters, rank=ranks is not None, sites=placements)
    check_figure(figure)
    if report_file:
        check_report(report_file)
    if figure and len(devices) > 1:
        raise InputError("--figure draws one device; give one, or leave the figure out")
    request = requested(
        OverheadRequest,
        device=devices[0],
        ranks=read_ranks(DEFAULT_RANK if ranks is None else ranks),
        prompts=[tokens for tokens in read_lengths(prompts, "-p", least=0) if tokens > 0],
        depths=[past for past in read_lengths(depths, "-d", least=-1) if past >= 0],
    )
    if len(devices) > 1:
        together = side_by_side(request, devices, feedback=feedback_of)
        code = console().show(together, view.sections_of_several, view.exit_code_of_several)
        failed = reported(together, report_file, console(), name=model, store=store) if report_file else 0
        return code or failed
    report = measure_overhead(request, feedback=console().feedback_with(view.sections))
    code, failed = console().show(report, view.sections, view.exit_code), 0
    if figure and report.rows:
        chart = view.over_rank(report.rows, view.title(report))
        failed = drawn(chart, figure, console())
    if report_file:
        failed = reported(report, report_file, console(), name=model, store=store) or failed
    return code or failed
