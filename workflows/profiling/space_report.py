"""A campaign over the configurations of a space, which measures those missing in its store."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
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
    open_model,
    precise_within,
    programs_for,
)
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring import Latency, probe_named
from adaptare.profiler.store import Origin
from adaptare.profiler.workloads import all_kinds
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.profiling.request import ProfileRequest
from adaptare.workflows.target import target_of

Measure = Callable[[Sequence[Workload]], list[Measurement]]
# Measures some of the missing workloads, given the known ones; returns these and the error reached, if estimated.
Strategy = Callable[[Sequence[Workload], Sequence[Measurement], Measure], tuple[list[Measurement], float | None]]


@dataclass(frozen=True)
class SpaceRow:
    """Latency of one configuration.

    Args:
        workload: Hash of the workload.
        parameters: Weights of the adapter.
        kept: Key of each kind of dimension that cuts the base -> share of the base's values that stays.
        latency: Seconds of a call.
        over_base: Ratio of the latency to that of the base, minus one.
        within_one_opening: True if the intervals do not generalise to the next load of the program.
    """

    workload: str
    configuration: Configuration
    sites: int
    parameters: int
    kept: Mapping[str, float]
    latency: Interval
    over_base: Interval
    within_one_opening: bool
    rounds: int
    openings: int
    trends: tuple[str, ...]
    stopped_by: str
    origin: Origin


@dataclass(frozen=True)
class SpaceReport:
    """Result of `measure_space`.

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


def profile_space(request: ProfileRequest, *, feedback: Feedback = SILENT) -> SpaceReport:
    """Measures the configurations of a request that are missing in its store.

    Raises:
        InputError: There is nothing to measure, or the device cannot run it or lacks the memory.
        DeviceError: The base does not run.
    """
    request.check()
    target = target_of(request.device)
    shape = open_model(request.model, cache=request.cache).shape
    template, space = request.template(shape, target), request.space_for(shape)
    programs = request.programs or programs_for(target.device.info(), cache=request.cache)
    workloads = workloads_of_space(
        template, space, count=request.count, seed=request.seed, programs=programs, note=feedback.note
    )
    if request.every_site and not any(workload.graph == "open" for workload in workloads):
        raise InputError(
            "every adapter of this space is on every site, so all graphs are open anyway; do not ask for it",
            parameter="every_site",
        )
    campaign = Campaign(
        target.device,
        programs,
        Store(request.store),
        precise_within(request.half_width, request.seconds, request.openings),
        request.seed,
        recalibrate=request.recalibrate,
        stubs=request.stubs,
        feedback=feedback,
        probes=(Latency(), *(probe_named(quantity) for quantity in dict.fromkeys(request.quantities))),
    )
    error = None if request.until_error is None else 100 * request.until_error
    return measure_space(
        template,
        workloads,
        campaign,
        model=request.model,
        limit_s=None if request.minutes is None else 60 * request.minutes,
        strategy=None if error is None else partial(measure_until, error=error, note=feedback.note),
        error_wanted=error,
    )


def workloads_of_space(
    template: Workload, space: Space, *, count: int, seed: int, programs: Programs, note: Callable[[str], None]
) -> list[Workload]:
    """Workloads of a design of `count` configurations, or of all of a smaller space, which is noted.

    Where adapters are merged, only widths and depth of a space that has them vary, as ranks do not change latency.

    Raises:
        InputError: There are none, or the runtime does not run one of them.
    """
    only_cuts = space.cuts_base and template.in_weights
    codes = design(space.at_largest_ranks if only_cuts else space, count, seed=seed)
    configurations = [space.decode(row) for row in codes]
    if only_cuts:
        configurations = [each.without_adapter for each in configurations if each.cuts_base]
        if not configurations:
            raise InputError(
                f"a {template.mode} adapter costs nothing, and no configuration of the space {space.name!r} is "
                "narrower or shallower than the base; give it fewer neurons or layers, or choose another mode",
                parameter="mode",
            )
    if len(codes) < count:
        note(f"configurations of the space {space.name!r} to measure: {len(configurations)}, fewer than {count}")
    workloads = [template.with_configuration(each) for each in configurations]
    for workload in workloads:
        programs.check(workload)
    return workloads


def measure_space(
    template: Workload,
    workloads: Sequence[Workload],
    campaign: Campaign,
    *,
    model: str,
    limit_s: float | None = None,
    strategy: Strategy | None = None,
    error_wanted: float | None = None,
) -> SpaceReport:
    """Measures those workloads that are missing in the store.

    Args:
        template: Workload without an adapter.
        workloads: All requested workloads.
        model: Name of the model, for display.
        limit_s: No group starts after this many seconds.
        strategy: Selects the workloads to measure, and when to stop; default: all of them.
        error_wanted: Error at which the strategy stops, per cent.
    """
    store, info, note = campaign.store, campaign.device.info(), campaign.feedback.note
    finished = store.finished(info, template.base, origin=campaign.origin, quantities=campaign.quantities)
    missing = [workload for workload in workloads if workload.hash not in finished]
    stored, wanted = store.measurements(info), set(workloads)
    bare = replace(template, graph="cut")
    alone = all(bare == replace(row.workload, configuration=template.configuration, graph="cut") for row in stored)
    already_there = len(workloads) - len(missing)
    if already_there:
        note(f"{already_there} of {len(workloads)} are in {store.location} already")
    started = time.monotonic()

    def measure(some: Sequence[Workload]) -> list[Measurement]:
        left_s = None if limit_s is None else limit_s - (time.monotonic() - started)
        if not some or (left_s is not None and left_s <= 0):
            return []
        return campaign.measure(list(some), title=f"measuring {template.phase}", limit_s=left_s)

    def of_this(measurements: Sequence[Measurement]) -> list[Measurement]:
        return [row for row in measurements if row.workload in wanted and row.origin == campaign.origin]

    error: float | None = None
    if strategy:
        measured, error = strategy(missing, of_this(stored), measure)
    else:
        measured = measure(missing)
    left, complete = len(missing) - len(measured), sum(not row.failure for row in measured)
    if left and not strategy:
        note(f"{left} of {len(workloads)} are not measured yet; the same command goes on with them")
    # Read again, because this session may have recalibrated the device.
    there = {row.workload: row for row in of_this(store.measurements(info)) if row.complete}
    return SpaceReport(
        model=model,
        device=info.device,
        quantisation=template.quantisation,
        dtype=template.dtype,
        phase=template.phase,
        length=template.length,
        batch=template.batch,
        mode=template.mode,
        open=template.graph == "open",
        store=store.location,
        origin=campaign.origin,
        wanted=len(workloads),
        already_there=already_there,
        measured=complete,
        rows=[_row(row) for row in there.values()],
        failed=len(measured) - complete,
        left=left,
        seconds=time.monotonic() - started,
        error_wanted=error_wanted,
        error_reached=error,
        base_s=campaign.calibration_s(template.base),
        alone=alone,
    )


def _row(measurement: Measurement) -> SpaceRow:
    workload = measurement.workload
    shape, configuration = workload.shape, workload.configuration
    return SpaceRow(
        workload=workload.hash,
        configuration=configuration,
        sites=len(configuration.ranks),
        parameters=configuration.adapter_parameters(shape),
        kept={kind.key: configuration.share_kept(kind, shape) for kind in all_kinds() if kind.cuts},
        latency=Interval(measurement.lower_s, measurement.latency_s, measurement.upper_s),
        over_base=measurement.overhead,
        within_one_opening=measurement.within_one_opening,
        rounds=len(measurement.visits),
        openings=len(set(measurement.openings.tolist())),
        trends=measurement.trends,
        stopped_by=measurement.stopped_by,
        origin=measurement.origin,
    )
