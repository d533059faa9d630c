"""Overhead of adapters on a device, in one call."""

from collections.abc import Sequence
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import Device
from adaptare.profiler import Programs, Store, open_model, precise_within, programs_for
from adaptare.profiler.analysis.verdict import EQUIVALENCE_BAND
from adaptare.workflows.overhead.overhead_report import OverheadReport, OverheadRequest, check_request, measure_overhead
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.target import target_of


def overhead(
    model: str,
    adapters: str | Path | Sequence[str | Path] = (),
    *,
    device: str | Device = "torch-cpu:threads=1",
    programs: Programs | None = None,
    ranks: Sequence[int] = (16,),
    placements: Sequence[str] = (),
    prompts: Sequence[int] = (64,),
    depths: Sequence[int] = (64,),
    generated: int = 0,
    tasks: int = 0,
    energy: bool = False,
    batch: int = 1,
    half_width: float = 0.01,
    seconds: float = 60.0,
    openings: int | None = None,
    band: float = EQUIVALENCE_BAND,
    recalibrate: bool = False,
    stubs: bool = False,
    resume: bool = False,
    store: str | Path = "adaptare.db",
    cache: str | Path | None = None,
    seed: int = 0,
    feedback: Feedback = SILENT,
) -> OverheadReport:
    """Measures adapters beside their base, in every way the runtime applies them, and keeps all samples in a store.

    Args:
        model: A folder, a hub id, a `config.json`, a GGUF file, `smollm2-135m` or `tiny-random`.
        adapters: PEFT folders; the first is compared with the others.
        device: A `Device`, or what `--device` of the command line takes, such as `ort-cpu:int4,threads=1`.
        programs: Builder of the device's programs; by default the one that is registered for its runtime.
        ranks: Without adapters: the same rank on every linear of each placement.
        placements: Without adapters: kinds of linears with commas (`q_proj,v_proj`); none for all linears.
        prompts: Tokens of prefill; none for no prefill.
        depths: Cached positions of decode; none for no decode.
        generated: Tokens after the first one of each prompt, for the latency of whole requests.
        tasks: Adapters to serve, for a comparison of merging and swapping.
        energy: True to count joules, where the device can.
        batch: Sequences at once.
        half_width: Measuring ends with every interval this narrow; 0.01 is 1 %.
        seconds: Or after this time, for each phase and group of programs.
        openings: Loads every program anew at most this often.
        band: Differences within this share are `same`.
        recalibrate: True to scale latencies by what the base takes now, whatever it took before.
        stubs: True to compose whole models from models of fewer layers.
        resume: True to take phases that the store has whole, instead of measuring them again.
        store: File or database URL.
        cache: Folder for converted models; the user's cache folder if `None`.
        seed: Of every random choice.
        feedback: Hears notes and progress.

    Raises:
        InputError: Nothing is left to measure, or the device cannot run or hold it.
        DeviceError: The base does not run.
    """
    check_request(prompts, depths, generated=generated, tasks=tasks, energy=energy, stubs=stubs)
    stop = precise_within(half_width, seconds, openings)
    given = [adapters] if isinstance(adapters, str | Path) else adapters
    if given and placements:
        raise InputError("an adapter has sites of its own; give it without placements")
    target = target_of(device)
    programs = programs or programs_for(target.device.info(), cache=cache)
    request = OverheadRequest(
        model,
        open_model(model, cache=cache).shape,
        target,
        programs,
        adapters=[Path(folder) for folder in given],
        ranks=ranks,
        placements=placements,
        prompts=list(dict.fromkeys(prompts)),
        depths=depths,
        generated=generated,
        tasks=tasks,
        energy=energy,
        batch=batch,
        stubs=stubs,
    )
    request.check()
    campaign = Campaign(
        target.device,
        programs,
        Store(store),
        stop,
        seed,
        recalibrate=recalibrate,
        stubs=stubs,
        resume=resume,
        feedback=feedback,
    )
    return measure_overhead(request, campaign, band=band)
