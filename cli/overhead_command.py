"""`adaptare overhead`."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adaptare.arguments import (
    DEFAULT_BAND,
    DEFAULT_DEVICE,
    DEFAULT_STORE,
    BandOption,
    BatchOption,
    CacheOption,
    DeviceOption,
    HalfWidthOption,
    JsonOption,
    ModelArgument,
    OpeningsOption,
    RecalibrateOption,
    SecondsOption,
    SeedOption,
    StoreOption,
    StubsOption,
)
from adaptare.console import BAD_INPUT, COMPOSED, WORLD_FAILED, Console, command
from adaptare.pace import OVERHEAD

if TYPE_CHECKING:
    from adaptare.overhead_grid import Case
    from adaptare.profiler import Measurement

DEFAULT_RANK = "16"


@command
def overhead(
    model: ModelArgument,
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ADAPTER...", help="PEFT folders; the first is compared with the others.", show_default="--rank"
        ),
    ] = None,
    rank: Annotated[
        str | None,
        typer.Option(
            "--rank",
            help="The same on every chosen site; 1,8,64 for a curve, from 0 in ONNX Runtime.",
            show_default=DEFAULT_RANK,
        ),
    ] = None,
    sites: Annotated[
        list[str] | None,
        typer.Option("--sites", help="Kinds of linears: q_proj,v_proj; again for more.", show_default="all"),
    ] = None,
    prefill: Annotated[
        str, typer.Option("-p", "--prefill", help="Tokens of the prompt, such as 64 or 64,512; 0: no prefill.")
    ] = "64",
    decode: Annotated[
        str, typer.Option("-d", "--decode", help="Cached positions in decode, such as 64 or 0,512; -1: no decode.")
    ] = "64",
    generate: Annotated[
        int,
        typer.Option("-n", "--generate", help="Tokens after the first, which a prompt of -p gives; 0: none.", min=0),
    ] = 0,
    tasks: Annotated[
        int, typer.Option("--tasks", help="Merge or swap: disk, memory and time for so many adapters; 0: no.", min=0)
    ] = 0,
    energy: Annotated[bool, typer.Option("--energy", help="Joules per call, where the device counts them.")] = False,
    batch: BatchOption = 1,
    device: DeviceOption = DEFAULT_DEVICE,
    half_width: HalfWidthOption = OVERHEAD.half_width,
    band: BandOption = DEFAULT_BAND,
    seconds: SecondsOption = OVERHEAD.seconds,
    openings: OpeningsOption = None,
    recalibrate: RecalibrateOption = False,
    stubs: StubsOption = False,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draws overhead over rank, in the format that the name ends in.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """What adapters cost on a device, merged and not, in prefill and decode, with 95 % intervals."""
    from adaptare.campaign import check_memory, measure
    from adaptare.comparison import show_compared
    from adaptare.devices import InputError
    from adaptare.energy_rows import count_energy, not_available, show_energy
    from adaptare.figure_file import check_figure, drawn
    from adaptare.merge_or_swap import largest_case, merge_or_swap, show_merge_or_swap
    from adaptare.overhead_figure import draw
    from adaptare.overhead_grid import cases_of, check_alone, grid, phases_of, read_lengths, read_ranks, workloads_of
    from adaptare.overhead_request import cached_positions, requests_of, show_requests
    from adaptare.overhead_rows import differences, preview, price_of_precision, row_of, show_rows, slopes
    from adaptare.profiler import Store, Workload, counts_energy, open_model, precise_within, programs_for
    from adaptare.target import target_of

    console = Console(as_json=as_json)
    prompts = [tokens for tokens in read_lengths(prefill, "-p", least=0) if tokens > 0]
    depths = [past for past in read_lengths(decode, "-d", least=-1) if past >= 0]
    if not prompts and not depths:
        raise InputError("nothing is left to measure; give -p above 0 or -d at least 0")
    if stubs and (tasks or energy):
        raise InputError(f"{'--tasks' if tasks else '--energy'} loads whole models, and --stubs none; give one of them")
    check_alone(adapters, rank=rank is not None, sites=sites)
    check_figure(figure)
    pasts = depths + cached_positions(prompts, generate)
    target = target_of(device)
    programs = programs_for(target.device.info(), cache=cache)
    precise_within(half_width, seconds)  # says what is wrong with them before anything is written
    ranks = read_ranks(DEFAULT_RANK if rank is None else rank)
    shape = open_model(model, cache=cache).shape
    cases = cases_of(shape, adapters) if adapters else grid(shape, ranks, sites or [])
    base = Workload(shape, batch=batch, **target.weights)
    swapped = largest_case(cases, base) if tasks else None
    wanted = [workloads_of(phase, cases, programs) for phase in phases_of(base, prompts=prompts, pasts=pasts)]
    counted = energy and counts_energy(target.device)
    if not stubs and len(wanted) > 1:
        check_memory([list(case_of) for case_of in wanted], device=target.device, programs=programs)
    kept = Store(store)
    title = f"{model} on {target.name}: adapters on {len(shape.sites)} linears or some of them{COMPOSED * stubs}"
    measured: list[tuple[Case, Measurement]] = []
    for case_of in wanted:
        of_phase = measure(
            list(case_of),
            device=target.device,
            half_width=half_width,
            seconds=seconds,
            seed=seed,
            openings=openings,
            store=kept,
            console=console,
            title=f"measuring {next(iter(case_of)).phase}",
            programs=programs,
            recalibrate=recalibrate,
            stubs=stubs,
            seen=partial(preview, tuple(measured), case_of, band=band, console=console, title=title),
        )
        measured += [(case_of[each.workload], each) for each in of_phase]
    found = [(case, each) for case, each in measured if not each.failure]
    rows = [row_of(case, each, band=band) for case, each in found]
    lines = slopes(found)
    show_rows(rows, lines, console, title=title)
    if price := price_of_precision([each for _, each in found], half_width):
        console.note(price)
    compared = differences(found, cases, band=band) if adapters else {}
    for name, between in compared.items():
        show_compared(between, console, title=f"{name} compared with {cases[0].placement}")
    requests = requests_of(rows, prompts=prompts, generated=generate, band=band)
    show_requests(requests, console)
    used = None if not energy or counted else not_available(target.device)
    if counted and found:
        used = count_energy(found, device=target.device, programs=programs, console=console)
    if used:
        show_energy(used, console)
    ways = None
    if swapped and rows:
        ways = merge_or_swap(rows, swapped, base, tasks=tasks, programs=programs, device=target.device, console=console)
        show_merge_or_swap(ways, console)
    all_drawn = True
    if figure and rows:
        all_drawn = drawn(partial(draw, rows, figure, title=f"{model} on {target.name}"), figure, console)
    console.result(
        {
            "model": model,
            "device": target.device.info().device,
            **target.weights,
            "rows": [asdict(row) for row in rows],
            "slopes": [asdict(slope) for slope in lines],
            "differences": {name: [asdict(each) for each in between] for name, between in compared.items()},
            "requests": [asdict(request) for request in requests],
            "energy": asdict(used) if used else None,
            "merge_or_swap": asdict(ways) if ways else None,
            "failures": [
                {
                    "phase": each.workload.phase,
                    "length": each.workload.length,
                    "placement": case.placement,
                    "rank": case.rank,
                    "mode": each.workload.mode,
                    "reason": each.failure,
                }
                for case, each in measured
                if each.failure
            ],
        }
    )
    if len(rows) < len(measured) or (ways and ways.failures) or (used and used.failed):
        raise typer.Exit(WORLD_FAILED)
    if not all_drawn:
        raise typer.Exit(BAD_INPUT)
