"""Overhead of adapters: one row per phase and mode, marginal costs of ranks and sites, whole requests, and energy."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Final, Literal

import numpy as np

from adaptare.profiler import Measurement, Mode, Workload
from adaptare.profiler.analysis import Endurance, Interval, Levels, openings_needed, verdict
from adaptare.profiler.store import Origin, overhead
from adaptare.profiler.workloads import AdapterKind
from adaptare.workflows.comparison import Compared, compare
from adaptare.workflows.grid import Case

ENERGY: Final = "energy"


@dataclass(frozen=True)
class Row:
    """Cost of one adapter in one phase and mode.

    Seconds are on the scale of `latency_s`, except `low_s`, `raw_s` and those of `endurance` (burst and sustained, with
    the adapter and of its base), which are unscaled. See `Loaded` for `providers`, the nodes that each of them runs,
    and for `host_share`, which is `None` where the host computes.

    Args:
        latency: Seconds of a call.
        over_base: Ratio of the latency to that of the base, minus one.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
        levels: Two levels of the ratio to the base among openings; `None` if one was seen.
    """

    origin: Origin
    phase: str
    length: int
    batch: int
    placement: str
    sites: int
    rank: int
    kind: AdapterKind
    mode: Mode
    base_s: float
    latency: Interval
    low_s: float
    p90_s: float
    p99_s: float
    raw_s: float
    tokens_per_s: float
    over_base: Interval
    verdict: str
    rounds: int
    openings: int
    too_few_openings: int
    levels: Levels | None
    stopped_by: str
    load_s: float
    first_call_s: float
    resident_bytes: int
    providers: Mapping[str, int]
    host_share: float | None
    endurance: Endurance | None
    base_endurance: Endurance | None

    @property
    def latency_s(self) -> float:
        """Seconds of a call."""
        return self.latency.middle

    @property
    def overhead(self) -> float:
        """Overhead relative to the base; its 95 % interval is from `overhead_lower` to `overhead_upper`."""
        return self.over_base.middle

    @property
    def overhead_lower(self) -> float:
        """Lower end of the interval of the overhead."""
        return self.over_base.lower

    @property
    def overhead_upper(self) -> float:
        """Upper end of the interval of the overhead."""
        return self.over_base.upper


@dataclass(frozen=True)
class Slope:
    """Marginal cost per call.

    Args:
        per: `rank`: one more rank on every site of the placement; `site`: one more adapted linear, at the lowest rank.
        seconds: Added seconds.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
    """

    phase: str
    length: int
    placement: str
    per: Literal["rank", "site"]
    seconds: Interval
    too_few_openings: int


@dataclass(frozen=True)
class PriceOfPrecision:
    """Estimated time for narrower intervals.

    Args:
        half_width: Half-width of every interval.
        seconds: For each phase; longer than a day if openings differ too much.
        phases: Number of phases.
    """

    half_width: float
    seconds: float
    phases: int


def row_of(case: Case, measurement: Measurement, *, band: float) -> Row:
    """A row from a measurement whose reference is its base; differences up to `band` count as the same."""
    workload, share = measurement.workload, measurement.overhead
    names = [
        "origin",
        "low_s",
        "raw_s",
        "tokens_per_s",
        "too_few_openings",
        "levels",
        "stopped_by",
        "load_s",
    ]
    names += ["first_call_s", "resident_bytes", "endurance"]
    return Row(
        phase=workload.phase,
        length=workload.length,
        batch=workload.batch,
        placement=case.placement,
        sites=_sites(workload),
        rank=case.rank,
        kind=case.config.kind,
        mode=workload.mode,
        base_s=measurement.reference_s,
        latency=measurement.value(),
        p90_s=measurement.quantile_s(0.9),
        p99_s=measurement.quantile_s(0.99),
        over_base=share,
        verdict=verdict(share, band=band, too_few=bool(measurement.too_few_openings)),
        rounds=len(measurement.visits),
        openings=len(set(measurement.openings.tolist())),
        providers=measurement.environment.get("providers", {}),
        host_share=measurement.environment.get("host_share"),
        base_endurance=measurement.reference_endurance,
        **{name: getattr(measurement, name) for name in names},
    )


def _sites(workload: Workload) -> int:
    """Number of linears with an adapter; all of them in a graph with every site open."""
    return len(workload.scope_sites if workload.graph == "open" else workload.configuration.ranks)


def slopes(measured: Sequence[tuple[Case, Measurement]]) -> list[Slope]:
    """Marginal costs: from the lowest to the highest rank of each placement, and from none of its sites to all.

    Args:
        measured: Measurements in any phases and modes; only swappable ones are used, within each phase.
    """
    slopes = []
    swappable = [pair for pair in measured if pair[1].workload.mode == "swappable"]
    lines = [(case.placement, row.workload.phase, row.workload.length) for case, row in swappable]
    for placement, phase, length in dict.fromkeys(lines):
        at = (placement, phase, length)
        own = sorted((pair for pair, line in zip(swappable, lines, strict=True) if line == at), key=lambda e: e[0].rank)
        low, first = own[0]
        # In a grid too large for one group, some ranks share no round with the lowest.
        high, last = next(pair for pair in reversed(own) if _together(pair[1], first))
        slopes.append(_slope("site", at, first.overhead, first.reference_s / _sites(first.workload), first))
        if high.rank > low.rank:
            step = first.latency_s / (high.rank - low.rank)
            slopes.append(_slope("rank", at, overhead(last, first), step, first, last))
    return slopes


def _slope(
    per: Literal["rank", "site"], at: tuple[str, str, int], share: Interval, scale_s: float, *measured: Measurement
) -> Slope:
    placement, phase, length = at
    seconds = Interval(scale_s * share.lower, scale_s * share.middle, scale_s * share.upper)
    return Slope(phase, length, placement, per, seconds, max(row.too_few_openings for row in measured))


@dataclass(frozen=True)
class ComposedRequest:
    """A prompt and the tokens generated after it, composed from the rows of its parts, which were timed apart.

    Args:
        batch: Concurrent requests.
        prompt: Tokens of the prompt.
        generated: Tokens decoded after the first one, which is part of the prefill; each attends to all before.
        first_token_s: Prefill of the prompt, seconds.
        token_s: Mean per decoded token, seconds.
        total: Seconds in all; `base_s` without adapter.
        tokens_per_s: Throughput: generated tokens of all sequences per second of the total.
        over_base: Ratio of the total to that of the base, minus one.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
    """

    placement: str
    rank: int
    mode: str
    batch: int
    prompt: int
    generated: int
    first_token_s: float
    token_s: float
    total: Interval
    base_s: float
    tokens_per_s: float
    over_base: Interval
    verdict: str
    too_few_openings: int
    phase: str = "request"
    origin: str = "composed"


def requests_of(rows: Sequence[Row], *, prompts: Sequence[int], generated: int, band: float) -> list[ComposedRequest]:
    """One request per prompt, adapter and mode for which every part was measured.

    Decode latency is affine in the cached positions, so the mean over all tokens is that of the first and the last.
    Interval ends are added, as if all errors had the same sign: a conservative bound.
    """
    at = {(row.placement, row.rank, row.mode, row.phase, row.length): row for row in rows}
    composed = []
    adapters = dict.fromkeys((row.placement, row.rank, row.mode) for row in rows)
    for prompt, (placement, rank, mode) in itertools.product(dict.fromkeys(prompts if generated else ()), adapters):
        places = [("prefill", prompt), *(("decode", past) for past in (prompt, prompt + generated - 1))]
        parts = [at[placement, rank, mode, *place] for place in places if (placement, rank, mode, *place) in at]
        if len(parts) < len(places):
            continue
        times, first_s = np.array([1.0, generated / 2, generated / 2]), parts[0].latency_s
        total = Interval(*(times @ [astuple(part.latency) for part in parts]).tolist())
        base_s = times * [part.base_s for part in parts]
        too_few = max(part.too_few_openings for part in parts)
        share = Interval(*(base_s @ [astuple(part.over_base) for part in parts] / base_s.sum()).tolist())
        request = ComposedRequest(
            placement,
            rank,
            mode,
            parts[0].batch,
            prompt,
            generated,
            first_token_s=first_s,
            token_s=(total.middle - first_s) / generated,
            total=total,
            base_s=float(base_s.sum()),
            tokens_per_s=parts[0].batch * generated / total.middle,
            over_base=share,
            verdict=verdict(share, band=band, too_few=bool(too_few)),
            too_few_openings=too_few,
        )
        composed.append(request)
    return composed


def differences(
    measured: Sequence[tuple[Case, Measurement]], cases: Sequence[Case], *, band: float
) -> dict[str, list[Compared]]:
    """Comparisons of all other adapters with the first, by name; adapters without common measurements are left out."""
    of = {case: [row for own, row in measured if own == case] for case in cases}
    first = of[cases[0]]
    return {
        case.placement: compare(first, of[case], latencies=False, across_adapters=True, band=band)
        for case in cases[1:]
        if first and of[case]
    }


def _together(one: Measurement, other: Measurement) -> bool:
    rounds = {visit.round for visit in other.visits}
    return one.session == other.session and any(visit.round in rounds for visit in one.visits)


def price_of_precision(measured: Sequence[Measurement], half_width: float) -> PriceOfPrecision | None:
    """Estimated time for the wanted width or, once reached, for the next half of it; `None` if unknown."""
    known = [row for row in measured if not row.too_few_openings and 0 < row.ratio.half_width < math.inf]
    if not known or len(known) < len(measured):
        return None
    wanted = half_width
    while wanted >= max(row.ratio.half_width for row in known):
        wanted /= 2
    needed_s = max(_seconds_needed(row, wanted) for row in known)
    return PriceOfPrecision(wanted, needed_s, len({row.workload.base for row in known})) if needed_s else None


def _seconds_needed(measured: Measurement, wanted: float) -> float:
    openings = len(np.unique(measured.openings))
    took_s = float(measured.environment.get("elapsed_s", 0.0))
    return took_s * openings_needed(measured.ratio.half_width, openings, wanted) / openings


@dataclass(frozen=True)
class EnergyRow:
    """Energy of one row of an overhead, or of a base.

    Args:
        placement: As in an overhead row; `base` without adapter.
        joules: Energy of one call, including everything the device draws meanwhile.
        watts: Power of the device during the calls.
        over_base: Ratio to the joules of the base, minus one; `None` for a base.
    """

    phase: str
    length: int
    placement: str
    rank: int
    mode: str
    joules: Interval
    watts: float
    over_base: Interval | None = None


@dataclass(frozen=True)
class EnergyRows:
    """Energy of all rows, or the reason why it is missing.

    Args:
        rows: Rows of every measured workload and its base.
        reason: Reason why there are no rows.
        failed: True if the device has a counter and counting failed.
    """

    rows: tuple[EnergyRow, ...] = ()
    reason: str = ""
    failed: bool = False


def energy_of(measured: Sequence[tuple[Case, Measurement]]) -> EnergyRows:
    """Energy of every measured workload and its base; the reason of a failure if one could not be counted."""
    failures = [row.quantities[ENERGY].failure for _, row in measured]
    if failure := next(filter(None, failures), ""):
        return EnergyRows(reason=failure, failed=True)
    rows, bases = list[EnergyRow](), set[str]()
    for case, row in measured:
        workload, joules, watts = row.workload, row.quantities[ENERGY], row.quantities["power"]
        base = EnergyRow(
            phase=workload.phase,
            length=workload.length,
            placement="base",
            rank=0,
            mode="",
            joules=joules.of_reference.value,
            watts=watts.of_reference.value.middle,
        )
        if row.reference.hash not in bases:
            bases.add(row.reference.hash)
            rows.append(base)
        adapted = replace(base, placement=case.placement, rank=case.rank, mode=workload.mode)
        over_base = joules.ratio.over_one
        rows.append(replace(adapted, joules=joules.value, watts=watts.value.middle, over_base=over_base))
    return EnergyRows(tuple(rows))
