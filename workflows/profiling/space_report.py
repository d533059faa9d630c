"""A campaign over the configurations of a space, which measures those missing in its store."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from adaptare.core import InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Section, Table
from adaptare.core.units import COMPOSED, between, milliseconds, percent
from adaptare.profiler import Measurement, Programs, Space, Workload, design
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.target import Target

Measure = Callable[[Sequence[Workload]], list[Measurement]]
# Measures some of the missing workloads, given the known ones; returns these and the error reached, if estimated.
Strategy = Callable[[Sequence[Workload], Sequence[Measurement], Measure], tuple[list[Measurement], float | None]]


COLUMNS: Final[tuple[Column[Measurement], ...]] = (
    Column("sites", lambda row: str(len(row.workload.configuration.ranks))),
    Column("adapter weights", lambda row: f"{row.workload.configuration.adapter_parameters(row.workload.shape):,}", 1),
    Column("latency ms", lambda row: milliseconds(row.latency_s)),
    Column("95 % interval", lambda row: latency_interval(row)),
    Column("overhead", lambda row: percent(row.overhead.middle)),
)
NEURONS: Final[Column[Measurement]] = Column("MLP neurons", lambda row: f"{_neurons_kept(row.workload):.0%}")
LAYERS: Final[Column[Measurement]] = Column(
    "layers", lambda row: str(len(row.workload.configuration.kept(row.workload.shape.layers)))
)


def latency_interval(measurement: Measurement) -> str:
    """Formatted interval of its latency in milliseconds."""
    ends = measurement.lower_s, measurement.upper_s
    return between(*ends, milliseconds, within_one_opening=measurement.within_one_opening)


@dataclass(frozen=True)
class SpaceReport:
    """Result of `measure_space`.

    Args:
        template: Workload without an adapter.
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

    title: str
    place: Mapping[str, str]
    template: Workload
    store: str
    wanted: int
    already_there: int
    measured: int
    rows: Sequence[Measurement]
    failed: int
    left: int
    seconds: float
    error_wanted: float | None
    error_reached: float | None
    base_s: float | None
    alone: bool

    @property
    def exit_code(self) -> ExitCode:
        """3 if something could not be measured, 1 if the wanted error is not reached, otherwise 0."""
        if self.failed:
            return ExitCode.WORLD_FAILED
        reached = self.error_reached is not None and self.error_reached <= (self.error_wanted or 0.0)
        return ExitCode.DONE if self.error_wanted is None or reached else ExitCode.ANSWER_IS_NO

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        configurations = [row.workload.configuration for row in self.rows]
        shallow = any(configuration.left_out for configuration in configurations)
        narrow = shallow or any(configuration.by_layer for configuration in configurations)
        yield Table(self.title, (*([LAYERS] if shallow else []), *([NEURONS] if narrow else []), *COLUMNS), self.rows)

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        hidden = ("title", "place", "template", "alone")
        kind = {name: getattr(self.template, name) for name in ("phase", "length", "mode")}
        kind["open"] = self.template.graph == "open"
        content = {name: value for name, value in vars(self).items() if name not in hidden}
        return {**self.place, **kind, **content, "rows": [_row(row) for row in self.rows]}


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
                "narrower or shallower than the base; give it fewer neurons or layers, or another --mode"
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
    target: Target,
    limit_s: float | None = None,
    strategy: Strategy | None = None,
    error_wanted: float | None = None,
) -> SpaceReport:
    """Measures those workloads that are missing in the store.

    Args:
        template: Workload without an adapter.
        workloads: All requested workloads.
        target: Device and weights, for display.
        limit_s: No group starts after this many seconds.
        strategy: Selects the workloads to measure, and when to stop; default: all of them.
        error_wanted: Error at which the strategy stops, per cent.
    """
    store, info, note = campaign.store, campaign.device.info(), campaign.feedback.note
    finished = store.finished(info, template.base, origin=campaign.origin)
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
    opened = " open" * (template.graph == "open")
    return SpaceReport(
        title=f"{model} on {target.name}, {template.phase} {template.length}, {template.mode}{opened}"
        f"{COMPOSED * campaign.stubs}",
        place={"model": model, **target.place},
        template=template,
        store=store.location,
        wanted=len(workloads),
        already_there=already_there,
        measured=complete,
        rows=list(there.values()),
        failed=len(measured) - complete,
        left=left,
        seconds=time.monotonic() - started,
        error_wanted=error_wanted,
        error_reached=error,
        base_s=campaign.calibration_s(template.base),
        alone=alone,
    )


def _neurons_kept(workload: Workload) -> float:
    shape, configuration = workload.shape, workload.configuration
    widths = configuration.by_layer
    kept = sum(widths.get(layer, shape.intermediate) for layer in configuration.kept(shape.layers))
    return kept / (shape.layers * shape.intermediate)


def _row(measurement: Measurement) -> dict[str, Any]:
    workload, overhead = measurement.workload, measurement.overhead
    names = ("latency_s", "lower_s", "upper_s", "within_one_opening", "trends", "stopped_by", "origin")
    return {
        "workload": workload.hash,
        "sites": len(workload.configuration.ranks),
        "parameters": workload.configuration.adapter_parameters(workload.shape),
        **({"widths": dict(widths)} if (widths := workload.configuration.by_layer) else {}),
        **({"left_out": list(left_out)} if (left_out := workload.configuration.left_out) else {}),
        "overhead": overhead.middle,
        "overhead_lower": overhead.lower,
        "overhead_upper": overhead.upper,
        "rounds": len(measurement.visits),
        "openings": len(set(measurement.openings.tolist())),
        **{name: getattr(measurement, name) for name in names},
    }
