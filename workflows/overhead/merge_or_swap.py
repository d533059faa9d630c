"""One base for many tasks: one merged model per task, or swappable adapters on a shared base."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adaptare.core.units import megabytes, milliseconds, percent
from adaptare.profiler import Measurement, Mode, Programs
from adaptare.profiler.analysis import Interval, verdict
from adaptare.profiler.measuring import Memory, Session, Swap, fed_bytes
from adaptare.profiler.workloads import BYTES, IN_WEIGHTS
from adaptare.workflows.grid import Case
from adaptare.workflows.profiling.campaign import Campaign


@dataclass(frozen=True)
class Way:
    """Cost of one application mode for all tasks.

    Args:
        disk_bytes: Base and adapters, or one model per task.
        memory_bytes: Memory with one task loaded; 0 if unknown.
        memory_of_all_bytes: Memory with all tasks loaded; 0 if unknown.
        peak_bytes: Peak of the memory until one task is loaded, including libraries; 0 if unknown.
        swap_s: Time of a task change, see `Swap`, with a 95 % interval; `cold_swap_s` with files read from storage.
        latency_s: Measured latency in that phase, with a 95 % interval; `base_s` without adapter.
    """

    mode: str
    disk_bytes: int
    memory_bytes: int
    memory_of_all_bytes: int
    peak_bytes: int
    swap_s: Interval
    phase: str
    length: int
    latency_s: Interval
    base_s: float
    overhead: float
    verdict: str
    cold_swap_s: Interval | None = None


@dataclass(frozen=True)
class MergeOrSwap:
    """Comparison of application modes for several tasks whose adapters have the same sites and ranks.

    Args:
        adapter_bytes: Size of one adapter.
        base_bytes: Size of the weights of one base on disk.
        ways: Measured application modes.
        failures: Mode -> reason it could not be loaded.
        tokens_to_pay: Decoded tokens per task change from which merging takes less time than swapping, with a 95 %
            interval, which is infinite if decode may be as fast in both; `None` if one of them is always faster, or
            decode was not measured.
        conclusion: Conclusion in one sentence.
    """

    tasks: int
    placement: str
    rank: int
    adapter_bytes: int
    base_bytes: int
    ways: tuple[Way, ...]
    failures: Mapping[Mode, str]
    tokens_to_pay: Interval | None
    conclusion: str


def weigh_ways(case: Case, rows: Sequence[Measurement], *, tasks: int, band: float, campaign: Campaign) -> MergeOrSwap:
    """Loads every measured mode of an adapter, and sums its costs over all tasks.

    Args:
        case: The adapter.
        rows: Its measurements; those of decode are used if there are any.
        tasks: Number of tasks, at least 1; all with adapters like this one.
        band: Equivalence band of the verdicts.
        campaign: Provides the device that loads them.
    """
    decode = [row for row in rows if row.workload.phase == "decode"] or rows
    measured = [row for row in decode if row.workload.length == decode[0].workload.length]
    workloads, programs = [row.workload for row in measured], campaign.programs
    base = workloads[0].base
    adapter_bytes = BYTES[base.dtype] * case.config.adapter_parameters(base.shape)
    session = Session(campaign.device, programs=programs)
    with campaign.feedback.progress("loading") as update:
        update(0.0, ", ".join(workload.mode for workload in workloads))
        loaded = session.measure(workloads, reference=base, probes=[Memory(openings=1, needed=False), Swap()])
        update(1.0, f"{len(loaded)} ways")
    failures, ways = dict[Mode, str](), list[Way]()
    for row, loading in zip(measured, loaded, strict=True):
        if failure := next((each.failure for each in loading.quantities.values() if each.failure), ""):
            failures[row.workload.mode] = failure
        else:
            found = verdict(row.overhead, band=band, too_few=bool(row.too_few_openings))
            ways.append(_way(row, loading, tasks, adapter_bytes, programs, found))
    base_bytes = programs.disk_bytes(base)
    return MergeOrSwap(
        tasks=tasks,
        placement=case.placement,
        rank=case.rank,
        adapter_bytes=adapter_bytes,
        base_bytes=base_bytes,
        ways=tuple(ways),
        failures=failures,
        tokens_to_pay=tokens_to_pay(ways),
        conclusion=conclude(ways, tasks=tasks, base_bytes=base_bytes),
    )


def _way(
    row: Measurement, loading: Measurement, tasks: int, adapter_bytes: int, programs: Programs, judged: str
) -> Way:
    workload = row.workload
    base_bytes = programs.disk_bytes(workload.base)
    one_more = fed_bytes(workload, programs) or programs.need(workload).program_bytes
    if workload.in_weights:
        one_more = programs.need(workload.base).program_bytes
    memory = round(loading.value("memory").middle) if loading.has("memory") else 0
    return Way(
        mode=workload.mode,
        disk_bytes=tasks * base_bytes if workload.in_weights else base_bytes + tasks * adapter_bytes,
        memory_bytes=memory,
        memory_of_all_bytes=memory + (tasks - 1) * one_more if memory else 0,
        peak_bytes=round(loading.value("peak_memory").middle) if loading.has("peak_memory") else 0,
        swap_s=loading.value("swap"),
        phase=workload.phase,
        length=workload.length,
        latency_s=row.value(),
        base_s=row.reference_s,
        overhead=row.overhead.middle,
        verdict=judged,
        cold_swap_s=loading.value("cold_swap") if loading.has("cold_swap") else None,
    )


def tokens_to_pay(ways: Sequence[Way]) -> Interval | None:
    """Decoded tokens per task change from which merging takes less time; see `MergeOrSwap`.

    References:
        Fieller 1954, "Some problems in interval estimation", section 2 (the ratio of two means).
    """
    folded, beside = _folded(ways), _quickest_beside(ways)
    if not folded or not beside or beside.phase != "decode":
        return None
    lost_s, lost_within_s = _difference(folded.swap_s, beside.swap_s)
    gained_s, gained_within_s = _difference(beside.latency_s, folded.latency_s)
    if lost_s <= 0 or gained_s <= 0:
        return None
    tokens, lost, gained = lost_s / gained_s, (lost_within_s / lost_s) ** 2, (gained_within_s / gained_s) ** 2
    if math.isinf(lost) or gained >= 1:
        return Interval(0.0, tokens, math.inf)
    half = math.sqrt(lost + gained - lost * gained)
    return Interval(max(0.0, tokens * (1 - half) / (1 - gained)), tokens, tokens * (1 + half) / (1 - gained))


def _difference(one: Interval, other: Interval) -> tuple[float, float]:
    """Difference of two independent quantities, and half the width of its interval."""
    return one.middle - other.middle, math.hypot(one.upper - one.lower, other.upper - other.lower) / 2


def conclude(ways: Sequence[Way], *, tasks: int, base_bytes: int) -> str:
    """Conclusion in one sentence; empty unless both a folded and an unmerged mode were measured."""
    folded, beside = _folded(ways), _quickest_beside(ways)
    if not folded or not beside:
        return ""
    speed = {"same": "is as fast as the base", "ambiguous": f"may be as fast as the base ({percent(folded.overhead)})"}
    merged = f"{folded.mode} {speed.get(folded.verdict, f'costs {percent(folded.overhead)}')}, needs {tasks} times "
    cold = "" if folded.cold_swap_s is None else f", {milliseconds(folded.cold_swap_s.middle)} ms from storage"
    merged += f"{megabytes(base_bytes)} MB on disk and {milliseconds(folded.swap_s.middle)} ms per change of task{cold}"
    lossy = ", where quantising again may cost quality" if folded.mode == "requantised" else ""
    swapped = f"{beside.mode} costs {percent(beside.overhead)} in {beside.phase}, needs "
    swapped += (
        f"{megabytes(beside.disk_bytes)} MB on disk in all and {milliseconds(beside.swap_s.middle)} ms per change"
    )
    tokens = tokens_to_pay(ways)
    return f"{merged}{lossy}; {swapped}{_pays(tokens) if tokens else ''}"


def _pays(tokens: Interval) -> str:
    if math.isinf(tokens.upper):
        return "; measured too coarsely to tell from how many tokens per change of task merging pays"
    ends = f"[{tokens.lower:,.0f}, {tokens.upper:,.0f}]"
    return f"; merging pays from {tokens.middle:,.0f} {ends} tokens per change of task on"


def _folded(ways: Sequence[Way]) -> Way | None:
    return next((way for way in ways if way.mode in IN_WEIGHTS), None)


def _quickest_beside(ways: Sequence[Way]) -> Way | None:
    """The unmerged mode with the shortest task change."""
    beside = [way for way in ways if way.mode not in IN_WEIGHTS]
    return min(beside, key=lambda way: way.swap_s.middle, default=None)
