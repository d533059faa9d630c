"""A campaign over the configurations of a space, which measures those missing in its store."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import Device
from adaptare.predictor import measure_until
from adaptare.profiler import (
    Configuration,
    Measurement,
    Mode,
    Phase,
    Programs,
    Quantisation,
    Space,
    Store,
    Workload,
    design,
    precise_within,
)
from adaptare.profiler.analysis import Interval, Levels
from adaptare.profiler.measuring import probes_of
from adaptare.profiler.store import LATENCY, Origin
from adaptare.profiler.workloads import all_kinds
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.spaces import space_of
from adaptare.workflows.target import opened


@dataclass(frozen=True)
class ProfileRequest:
    """Configurations of a space to measure into a store; fields without a description are those of `OverheadRequest`.

    Args:
        space: A `Space`, its name, or a YAML file. By default each linear has a rank of its own, so that a predictor
            knows each kind of linear.
        ranks: Ranks that a site may have, for a space by name.
        count: Number of configurations; all of a smaller space.
        length: Tokens of prefill, or cached positions of decode.
        every_site: True for one graph in which every site takes an adapter; unused sites get rank 0.
        half_width: Measuring a group ends when every interval is this narrow; 0.01 is 1 %.
        seconds: Time limit of each group of programs, including loading.
        openings: Maximum number of fresh loads of every program.
        minutes: No further measurement starts after this time; `None` for no limit.
        until_error: Error of a predictor on held-out adapters at which to stop, a share; `None` to measure all.
        quantities: Quantities to measure beside latency, such as energy.
    """

    model: str
    device: str | Device = "torch-cpu:threads=1"
    programs: Programs | None = None
    space: str | Space = "sites"
    ranks: Sequence[int] | None = None
    count: int = 40
    phase: Phase = "decode"
    length: int = 64
    batch: int = 1
    mode: Mode = "swappable"
    every_site: bool = False
    half_width: float = 0.01
    seconds: float = 120.0
    openings: int | None = None
    minutes: float | None = None
    until_error: float | None = None
    recalibrate: bool = False
    stubs: bool = False
    quantities: Sequence[str] = ()
    store: str | Path = "adaptare.db"
    cache: str | Path | None = None
    seed: int = 0

    def check(self) -> None:
        """Raises `InputError` for limits that make no sense."""
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(
                f"the limit must be above 0 minutes, not {self.minutes}; leave it out to measure everything",
                parameter="minutes",
            )
        if self.until_error is not None and not self.until_error > 0:
            raise InputError(
                "the wanted error must be above 0 %, as every predictor has some; choose for example 2 %",
                parameter="until_error",
            )
        if self.stubs and self.quantities:
            raise InputError(
                "stubs compose latency only; measure whole models, or no other quantity", parameter="stubs"
            )


@dataclass(frozen=True)
class SpaceRow:
    """Latency of one configuration.

    Args:
        workload: Hash of the workload.
        parameters: Weights of the adapter.
        kept: Key of each kind of dimension that cuts the base -> share of the base's values that stays.
        latency: Seconds of a call.
        over_base: Ratio of the latency to that of the base, minus one.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
        levels: Two levels of the ratio to the base among openings; `None` if one was seen.
    """

    workload: str
    configuration: Configuration
    sites: int
    parameters: int
    kept: Mapping[str, float]
    latency: Interval
    over_base: Interval
    too_few_openings: int
    rounds: int
    openings: int
    levels: Levels | None
    stopped_by: str
    origin: Origin


@dataclass(frozen=True)
class SpaceReport:
    """Result of `profile_space`.

    Args:
        open: True if every site of the graph takes an adapter.
        wanted: Number of requested configurations.
        already_there: Number already in the store.
        measured: Number measured now.
        rows: Measurements of all that are now in the store.
        left: Number still missing.
        error_wanted: Error at which to stop, per cent; `None` for all.
        error_reached: `None` if it was not estimated.
        base_s: Calibrated seconds of the base.
        alone: True if the store holds nothing else of this device.
        adapters: Adapters of this model, phase, length and mode that the store has, those of other sessions too.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    phase: Phase
    length: int
    batch: int
    mode: Mode
    open: bool
    store: str
    origin: Origin
    wanted: int
    already_there: int
    measured: int
    rows: Sequence[SpaceRow]
    failed: int
    left: int
    seconds: float
    error_wanted: float | None
    error_reached: float | None
    base_s: float | None
    alone: bool
    adapters: int


def profile_space(request: ProfileRequest, *, feedback: Feedback = SILENT) -> SpaceReport:
    """Measures the configurations of a request that are missing in its store.

    Raises:
        InputError: There is nothing to measure, or the device cannot run it or lacks the memory.
        DeviceError: The base does not run.
    """
    request.check()
    stop = precise_within(request.half_width, request.seconds, request.openings)
    target, shape, programs = opened(request.model, request.device, request.programs, cache=request.cache)
    template = target.workload(shape, request.phase, request.length, mode=request.mode, batch=request.batch)
    template = replace(template, graph="open" if request.every_site else "cut")
    workloads, note = _workloads(request, template, programs, feedback.note), feedback.note
    campaign = Campaign(
        target.device,
        programs,
        Store(request.store),
        stop,
        request.seed,
        recalibrate=request.recalibrate,
        stubs=request.stubs,
        feedback=feedback,
        probes=probes_of((LATENCY, *request.quantities)),
    )
    store, info, origin = campaign.store, target.device.info(), campaign.origin
    finished = store.finished(info, template.base, origin=origin, quantities=campaign.quantities)
    missing = [workload for workload in workloads if workload.hash not in finished]
    stored, there = store.measurements(info), len(workloads) - len(missing)
    requested, bare = set(workloads), replace(template, graph="cut")
    if there:
        note(f"{there} of {len(workloads)} are in {store.location} already")
    started = time.monotonic()

    def measure(some: Sequence[Workload]) -> list[Measurement]:
        left_s = None if request.minutes is None else 60 * request.minutes - (time.monotonic() - started)
        if not some or (left_s is not None and left_s <= 0):
            return []
        return campaign.measure(list(some), title=f"measuring {template.phase}", limit_s=left_s)

    def kind_of(row: Measurement) -> Workload:
        return replace(row.workload, configuration=Configuration(), graph="cut")

    def of_this(rows: Sequence[Measurement]) -> list[Measurement]:
        return [row for row in rows if row.workload in requested and row.origin == origin]

    wanted = None if request.until_error is None else 100 * request.until_error
    if wanted is None:
        measured, error = measure(missing), None
    else:
        measured, error = measure_until(missing, of_this(stored), measure, error=wanted, note=note)
    left, complete = len(missing) - len(measured), sum(not row.failure for row in measured)
    if left and wanted is None:
        note(f"{left} of {len(workloads)} are not measured yet; the same command goes on with them")
    # Read again, because this session may have recalibrated the device.
    now = store.measurements(info)
    rows = {row.workload: row for row in of_this(now) if row.complete}
    alike = {row.workload for row in now if row.complete and kind_of(row) == bare}
    return SpaceReport(
        model=request.model,
        device=info.device,
        **target.weights,
        phase=request.phase,
        length=request.length,
        batch=request.batch,
        mode=request.mode,
        open=request.every_site,
        store=store.location,
        origin=origin,
        wanted=len(workloads),
        already_there=there,
        measured=complete,
        rows=[_row(row) for row in rows.values()],
        failed=len(measured) - complete,
        left=left,
        seconds=time.monotonic() - started,
        error_wanted=wanted,
        error_reached=error,
        base_s=campaign.calibration_s(template.base),
        alone=all(kind_of(row) == bare for row in stored),
        adapters=len(alike),
    )


def _workloads(
    request: ProfileRequest, template: Workload, programs: Programs, note: Callable[[str], None]
) -> list[Workload]:
    """Workloads of a design with the requested number of configurations; of a smaller space all, with a note.

    Where adapters are merged, only widths and depth of a space that has them vary, as ranks do not change latency.

    Raises:
        InputError: There are none, or the runtime does not run one of them.
    """
    space = request.space
    if not isinstance(space, Space):
        space = space_of(space, template.shape, ranks=request.ranks, layers_alike=request.stubs)
    only_cuts = space.cuts_base and template.in_weights
    designed = configurations = design(space.at_largest_ranks if only_cuts else space, request.count, seed=request.seed)
    if only_cuts:
        configurations = [each.without_adapter for each in designed if each.cuts_base]
        if not configurations:
            raise InputError(
                f"a {template.mode} adapter costs nothing, and no configuration of the space {space.name!r} is "
                "narrower or shallower than the base; give it fewer neurons or layers, or choose another mode",
                parameter="mode",
            )
    if len(designed) < request.count:
        note(
            f"configurations of the space {space.name!r} to measure: {len(configurations)}, fewer than {request.count}"
        )
    workloads = [template.with_configuration(each) for each in configurations]
    for workload in workloads:
        programs.check(workload)
    if request.every_site and not any(workload.graph == "open" for workload in workloads):
        raise InputError(
            "every adapter of this space is on every site, so all graphs are open anyway; do not ask for it",
            parameter="every_site",
        )
    return workloads


def _row(measurement: Measurement) -> SpaceRow:
    workload = measurement.workload
    shape, configuration = workload.shape, workload.configuration
    return SpaceRow(
        workload=workload.hash,
        configuration=configuration,
        sites=len(configuration.ranks),
        parameters=configuration.adapter_parameters(shape),
        kept={kind.key: configuration.share_kept(kind, shape) for kind in all_kinds() if kind.cuts},
        latency=measurement.value(),
        over_base=measurement.overhead,
        too_few_openings=measurement.too_few_openings,
        rounds=len(measurement.visits),
        openings=len(set(measurement.openings.tolist())),
        levels=measurement.levels,
        stopped_by=measurement.stopped_by,
        origin=measurement.origin,
    )
