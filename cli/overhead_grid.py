"""What `adaptare overhead` measures and says: adapters by placement and rank, rows, slopes and a figure."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.devices import InputError, MissingPackageError, StorageError
from adaptare.profiler import AdapterConfig, Measurement, ModelShape, Programs, Workload, overhead, verdict

ALL = "all"
FORMATS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Case:
    """One adapter of the grid.

    Args:
        placement: Kinds of linears, `all`, or the folder it comes from.
        rank: On every site; the largest where they differ.
        config: Sites and ranks.
    """

    placement: str
    rank: int
    config: AdapterConfig


@dataclass(frozen=True)
class Row:
    """What one adapter cost in one phase and mode; seconds on the scale of `latency_s`, overheads as shares."""

    phase: str
    length: int
    batch: int
    placement: str
    sites: int
    rank: int
    mode: str
    base_s: float
    latency_s: float
    lower_s: float
    upper_s: float
    p90_s: float
    raw_s: float
    tokens_per_s: float
    overhead: float
    overhead_lower: float
    overhead_upper: float
    verdict: str
    rounds: int
    openings: int
    trends: tuple[str, ...]
    stopped_by: str
    load_s: float
    resident_bytes: int
    origin: str


@dataclass(frozen=True)
class Slope:
    """What more of something adds to a call, seconds, with a 95 % interval.

    Args:
        phase: `prefill` or `decode`.
        placement: As in a row.
        per: `rank`: one more on every site of the placement; `site`: one more adapted linear, at the lowest rank.
        seconds: The estimate.
        lower_s: Lower end.
        upper_s: Upper end.
    """

    phase: str
    placement: str
    per: str
    seconds: float
    lower_s: float
    upper_s: float


def read_ranks(text: str) -> list[int]:
    """Ranks such as `16` or `0,1,8`, ascending. Raises `InputError`."""
    try:
        ranks = sorted({int(part) for part in text.split(",") if part.strip()})
    except ValueError as error:
        raise InputError(f"--rank must be whole numbers such as 16 or 1,8,64, not {text!r}") from error
    if not ranks or ranks[0] < 0:
        raise InputError(f"--rank must be at least 1, not {text}")
    return ranks


def grid(shape: ModelShape, ranks: Sequence[int], placements: Sequence[str]) -> list[Case]:
    """Every rank on every placement; rank 0 opens the sites of the placement and puts nothing there."""
    known = list(dict.fromkeys(site.kind for site in shape.sites))
    found = []
    for placement in placements or [ALL]:
        kinds = () if placement == ALL else tuple(filter(None, placement.split(",")))
        if unknown := sorted(set(kinds) - set(known)):
            raise InputError(f"--sites: the model has no {', '.join(unknown)}; it has {', '.join(known)}, or all")
        for rank in ranks:
            paths = [site.path for site in shape.sites if not kinds or site.kind in kinds]
            config = AdapterConfig(tuple((path, rank) for path in paths))
            config.check(shape)
            found.append(Case(placement, rank, config))
    return found


def workloads_of(template: Workload, cases: Sequence[Case], programs: Programs) -> dict[Workload, Case]:
    """What to measure for one phase: every case swappable, and the largest of each placement in every other way too.

    Raises:
        InputError: The runtime does not run one of them.
    """
    found = {template.with_adapter(case.config): case for case in cases}
    largest = {case.placement: (workload, case) for workload, case in found.items() if case.rank}
    for workload, case in largest.values():
        found |= {replace(workload, mode=mode): case for mode in programs.modes(workload)}
    for workload in found:
        programs.need(workload)
    return found


def row_of(case: Case, measurement: Measurement) -> Row:
    """A measurement with its base as the reference."""
    workload, share = measurement.workload, measurement.overhead
    return Row(
        phase=workload.phase,
        length=workload.length,
        batch=workload.batch,
        placement=case.placement,
        sites=len(case.config),
        rank=case.rank,
        mode=workload.mode,
        base_s=measurement.reference_s,
        latency_s=measurement.latency_s,
        lower_s=measurement.lower_s,
        upper_s=measurement.upper_s,
        p90_s=measurement.quantile_s(0.9),
        raw_s=measurement.raw_s,
        tokens_per_s=measurement.tokens_per_s,
        overhead=share.middle,
        overhead_lower=share.lower,
        overhead_upper=share.upper,
        verdict=verdict(share),
        rounds=len(measurement.visits),
        openings=len(set(measurement.openings.tolist())),
        trends=measurement.trends,
        stopped_by=measurement.stopped_by,
        load_s=measurement.load_s,
        resident_bytes=measurement.resident_bytes,
        origin=measurement.origin,
    )


def slopes(swappable: Sequence[tuple[Case, Measurement]]) -> list[Slope]:
    """From the lowest to the highest rank of each placement, and from none of its sites to all of them.

    Args:
        swappable: Of one phase, measured in one session.
    """
    found = []
    for placement in dict.fromkeys(case.placement for case, _ in swappable):
        own = sorted((each for each in swappable if each[0].placement == placement), key=lambda each: each[0].rank)
        (low, first), (high, last) = own[0], own[-1]
        share = first.overhead
        scale = first.reference_s / len(low.config)
        per_site = (scale * share.middle, scale * share.lower, scale * share.upper)
        found.append(Slope(first.workload.phase, placement, "site", *per_site))
        if high.rank > low.rank:
            step = overhead(last, first)
            scale = first.latency_s / (high.rank - low.rank)
            per_rank = (scale * step.middle, scale * step.lower, scale * step.upper)
            found.append(Slope(first.workload.phase, placement, "rank", *per_rank))
    return found


def check_figure(file: Path | None) -> None:
    """Raises `InputError` unless a figure can go there, and `MissingPackageError` unless it can be drawn."""
    if file is None:
        return
    if file.suffix not in FORMATS:
        raise InputError(f"--figure must end in {', '.join(FORMATS)}, not {str(file)!r}")
    if not file.parent.is_dir():
        raise InputError(f"--figure: there is no folder {str(file.parent)!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingPackageError("a figure needs matplotlib; install it with: pip install 'adaptare[figures]'")


def draw(rows: Sequence[Row], file: Path, *, title: str) -> None:
    """Overhead over rank with intervals, one panel for each phase and one line for each placement and mode.

    Raises:
        StorageError: The file cannot be written.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    phases = list(dict.fromkeys(row.phase for row in rows))
    figure, axes = pyplot.subplots(1, len(phases), figsize=(6 * len(phases), 4), squeeze=False)
    for axis, phase in zip(axes[0], phases, strict=True):
        for placement, mode in dict.fromkeys((row.placement, row.mode) for row in rows):
            line = [row for row in rows if (row.phase, row.placement, row.mode) == (phase, placement, mode)]
            middle = [100 * row.overhead for row in line]
            below = [100 * (row.overhead - row.overhead_lower) for row in line]
            above = [100 * (row.overhead_upper - row.overhead) for row in line]
            ranks = [row.rank for row in line]
            axis.errorbar(ranks, middle, [below, above], label=f"{placement}, {mode}", marker="o", capsize=3)
        axis.axhline(0, color="grey", linewidth=0.8)
        base_ms = next(1e3 * row.base_s for row in rows if row.phase == phase)
        axis.set(title=f"{phase}, base {base_ms:.3g} ms", xlabel="rank", ylabel="overhead, %")
        axis.legend(fontsize=8)
    figure.suptitle(title)
    figure.tight_layout()
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise StorageError(f"the figure {str(file)!r} cannot be written: {error}") from error
    finally:
        pyplot.close(figure)
