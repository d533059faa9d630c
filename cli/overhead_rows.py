"""What `adaptare overhead` says of adapters: a row for each phase and mode, and what more ranks and sites add."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adaptare.comparison import Compared, compare
from adaptare.console import Console, between, milliseconds, per_second, percent
from adaptare.overhead_grid import Case
from adaptare.profiler import AdapterKind, Measurement, Mode, Workload, overhead, verdict

COLUMNS: Final = (
    "phase",
    "adapter",
    "mode",
    "base ms",
    "with adapter ms",
    "tokens/s",
    "overhead",
    "95 % interval",
    "verdict",
)


@dataclass(frozen=True)
class Row:
    """What one adapter cost in one phase and mode; overheads as shares.

    Seconds are on the scale of `latency_s`, but for `low_s` and `raw_s`, which are as they were taken.
    """

    origin: str
    phase: str
    length: int
    batch: int
    placement: str
    sites: int
    rank: int
    kind: AdapterKind
    mode: Mode
    base_s: float
    latency_s: float
    lower_s: float
    upper_s: float
    low_s: float
    p90_s: float
    p99_s: float
    raw_s: float
    tokens_per_s: float
    overhead: float
    overhead_lower: float
    overhead_upper: float
    verdict: str
    rounds: int
    openings: int
    within_one_opening: bool
    trends: tuple[str, ...]
    stopped_by: str
    load_s: float
    first_call_s: float
    resident_bytes: int


@dataclass(frozen=True)
class Slope:
    """What more of something adds to a call, seconds, with a 95 % interval.

    Args:
        phase: `prefill` or `decode`.
        length: As in a row.
        placement: As in a row.
        per: `rank`: one more on every site of the placement; `site`: one more adapted linear, at the lowest rank.
        seconds: The estimate.
        lower_s: Lower end.
        upper_s: Upper end.
        within_one_opening: True if the interval says nothing about the next loading of the programs.
    """

    phase: str
    length: int
    placement: str
    per: str
    seconds: float
    lower_s: float
    upper_s: float
    within_one_opening: bool


def row_of(case: Case, measurement: Measurement, *, band: float) -> Row:
    """A measurement with its base as the reference; differences up to `band` are the same."""
    workload, share = measurement.workload, measurement.overhead
    return Row(
        origin=measurement.origin,
        phase=workload.phase,
        length=workload.length,
        batch=workload.batch,
        placement=case.placement,
        sites=_sites(workload),
        rank=case.rank,
        kind=case.config.kind,
        mode=workload.mode,
        base_s=measurement.reference_s,
        latency_s=measurement.latency_s,
        lower_s=measurement.lower_s,
        upper_s=measurement.upper_s,
        low_s=measurement.low_s,
        p90_s=measurement.quantile_s(0.9),
        p99_s=measurement.quantile_s(0.99),
        raw_s=measurement.raw_s,
        tokens_per_s=measurement.tokens_per_s,
        overhead=share.middle,
        overhead_lower=share.lower,
        overhead_upper=share.upper,
        verdict=verdict(share, band=band),
        rounds=len(measurement.visits),
        openings=len(set(measurement.openings.tolist())),
        within_one_opening=measurement.within_one_opening,
        trends=measurement.trends,
        stopped_by=measurement.stopped_by,
        load_s=measurement.load_s,
        first_call_s=measurement.first_call_s,
        resident_bytes=measurement.resident_bytes,
    )


def _sites(workload: Workload) -> int:
    """Linears that an adapter is applied at; all of them in a graph with every site open."""
    return len(workload.scope_sites if workload.graph == "open" else workload.configuration.ranks)


def slopes(measured: Sequence[tuple[Case, Measurement]]) -> list[Slope]:
    """From the lowest to the highest rank of each placement, and from none of its sites to all of them.

    Args:
        measured: In any phases and modes; only what is swappable counts, within its phase.
    """
    found = []
    swappable = [each for each in measured if each[1].workload.mode == "swappable"]
    lines = [(case.placement, each.workload.phase, each.workload.length) for case, each in swappable]
    for placement, phase, length in dict.fromkeys(lines):
        at = (placement, phase, length)
        own = sorted((each for each, line in zip(swappable, lines, strict=True) if line == at), key=lambda e: e[0].rank)
        low, first = own[0]
        # A grid too large for one group has ranks that share no round with the lowest.
        high, last = next(each for each in reversed(own) if _together(each[1], first))
        share = first.overhead
        scale = first.reference_s / _sites(first.workload)
        per_site = (scale * share.middle, scale * share.lower, scale * share.upper)
        found.append(Slope(phase, length, placement, "site", *per_site, first.within_one_opening))
        if high.rank > low.rank:
            step = overhead(last, first)
            scale = first.latency_s / (high.rank - low.rank)
            per_rank = (scale * step.middle, scale * step.lower, scale * step.upper)
            one = first.within_one_opening or last.within_one_opening
            found.append(Slope(phase, length, placement, "rank", *per_rank, one))
    return found


def differences(
    measured: Sequence[tuple[Case, Measurement]], cases: Sequence[Case], *, band: float
) -> dict[str, list[Compared]]:
    """Every other adapter compared with the first, by name; those of which nothing was measured are left out."""
    of = {case: [each for own, each in measured if own == case] for case in cases}
    first = of[cases[0]]
    return {
        case.placement: compare(first, of[case], latencies=False, across_adapters=True, band=band)
        for case in cases[1:]
        if first and of[case]
    }


def _together(one: Measurement, other: Measurement) -> bool:
    rounds = {visit.round for visit in other.visits}
    return one.session == other.session and any(visit.round in rounds for visit in one.visits)


def cells_of(rows: Sequence[Row]) -> list[list[str]]:
    """Rows for people, see `COLUMNS`."""
    return [
        [
            f"{row.phase} {row.length}",
            f"{row.placement} r{row.rank}{'' if row.kind == 'lora' else ' ' + row.kind}",
            row.mode,
            milliseconds(row.base_s),
            milliseconds(row.latency_s),
            per_second(row.tokens_per_s),
            percent(row.overhead),
            _interval(row),
            row.verdict,
        ]
        for row in rows
    ]


def preview(
    known: Sequence[tuple[Case, Measurement]],
    case_of: Mapping[Workload, Case],
    partial: Sequence[Measurement],
    *,
    band: float,
    console: Console,
    title: str,
) -> None:
    """Shows the table as it stands.

    Args:
        known: Finished phases.
        case_of: Cases of the phase that is being measured.
        partial: Its measurements so far.
        band: See `row_of`.
        console: Has a terminal, or shows nothing.
        title: Of the table.
    """
    so_far = [(case_of[each.workload], each) for each in partial]
    rows = [row_of(case, each, band=band) for case, each in (*known, *so_far) if each.visits and not each.failure]
    console.preview(title, COLUMNS, cells_of(rows))


def show_rows(rows: Sequence[Row], slopes: Sequence[Slope], console: Console, *, title: str) -> None:
    """A table, and a sentence for each slope."""
    console.table(title, COLUMNS, cells_of(rows))
    for row in rows:
        if row.mode == "merged":
            console.say(
                f"{row.phase} {row.length}, {row.placement} r{row.rank}: merged runs the graph of the base, so its "
                f"overhead of {percent(row.overhead)} {_interval(row)} is measurement error"
            )
    for slope in slopes:
        what = "one more rank on every site" if slope.per == "rank" else "one more adapted linear"
        ends = f"{1e6 * slope.lower_s:.1f}", f"{1e6 * slope.upper_s:.1f}"
        where = f"{slope.phase} {slope.length}, {slope.placement}"
        interval = between(*ends, within_one_opening=slope.within_one_opening)
        console.say(f"{where}: {what} adds {1e6 * slope.seconds:.1f} us {interval}")


def price_of_precision(measured: Sequence[Measurement], half_width: float) -> str:
    """Time that the wanted width would take or, where it was reached, the next half of it; empty if not known."""
    took_s = {each.workload.base: float(each.environment.get("elapsed_s", 0.0)) for each in measured}
    widest = dict.fromkeys(took_s, 0.0)
    for each in measured:
        widest[each.workload.base] = max(widest[each.workload.base], each.ratio.half_width)
    if not widest or not all(0 < width < math.inf for width in widest.values()) or not min(took_s.values()):
        return ""
    wanted = half_width
    while wanted >= max(widest.values()):
        wanted /= 2
    needed_s = max(took_s[base] * (width / wanted) ** 2 for base, width in widest.items())
    rounded_s = 10 * math.ceil(needed_s / 10)
    time = f"{rounded_s} s" if rounded_s < 100 else f"{rounded_s / 60:.0f} min"
    of_each = " for each phase" if len(widest) > 1 else ""
    return f"±{100 * wanted:.2g} % would take about {time}{of_each}: --half-width {wanted:g} --seconds {rounded_s}"


def _interval(row: Row) -> str:
    ends = percent(row.overhead_lower), percent(row.overhead_upper)
    return between(*ends, within_one_opening=row.within_one_opening)
