"""Verification: choices of a search, remeasured and compared with the budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.core.units import displayed
from adaptare.predictor import load_predictor
from adaptare.profiler import Measurement, Programs, Store, Workload, programs_for
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring import Latency, PreciseWithin, probe_of
from adaptare.profiler.store import CALIBRATION_HOLDS, LATENCY, Samples, pooled
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.search.result import Choice, Measured, SearchResult, Verdict, load_result
from adaptare.workflows.target import named_target


@dataclass(frozen=True)
class VerifyRequest:
    """Measurement of the winners and baselines of a search.

    Args:
        front: File of the search.
        device: Spelling of the device; `None` for that of the predictor.
        stop: Precision and time limit.
        programs: Builder of the device's programs; `None` for the one that is registered for its runtime.
        repeats: Further measurements of ambiguous winners, each as long as the first; all samples are pooled.
        recalibrate: True to calibrate with the base's present seconds, even if the calibration in the store holds.
        store: File or database URL of all measurements.
        cache: Folder of converted models; `None` for the user's cache folder.
    """

    front: Path
    stop: PreciseWithin
    store: str
    device: str | None = None
    programs: Programs | None = None
    repeats: int = 3
    recalibrate: bool = False
    cache: Path | None = None
    seed: int = 0


def verify(request: VerifyRequest, *, feedback: Feedback) -> SearchResult:
    """Measures winners and baselines of a search in one session, and compares them with the budget.

    Raises:
        InputError: A file cannot be read, or the predictor was replaced since the search or is of another device.
    """
    result = load_result(request.front)
    if result.predictor is None:
        raise InputError(f"{str(request.front)!r} names no predictor; search again")
    fitted = load_predictor(result.predictor).at(result.place.length)
    if fitted.base_value != result.base:
        unit, text = displayed(fitted.unit)
        raise InputError(
            f"{result.predictor} is not the predictor of this search any more: its base has {text(fitted.base_value)} "
            f"{unit}, that of the search {text(result.base)} {unit}; search again, and write every predictor to a file "
            "of its own"
        )
    quantity = result.budget.quantity
    target = named_target(request.device, fitted.device, fitted.template)
    info = target.device.info()
    load_predictor(result.predictor, device=info)
    programs = request.programs or programs_for(info, cache=request.cache)
    programs.check(fitted.template)
    campaign = Campaign(
        target.device,
        programs,
        Store(request.store),
        request.stop,
        request.seed,
        recalibrate=request.recalibrate,
        feedback=feedback,
        probes=(Latency(),) if quantity == LATENCY else (Latency(), probe_of(quantity)),
    )
    result = replace(result, place=replace(result.place, device=info.device))
    return verify_choices(result, fitted.template, campaign, repeats=request.repeats)


def verify_choices(result: SearchResult, template: Workload, campaign: Campaign, *, repeats: int) -> SearchResult:
    """The result with measured choices: all in one session, then ambiguous winners again.

    Choices with the same workload are measured once.

    Args:
        template: Workload of the base.
        repeats: See `VerifyRequest`.
    """
    known: dict[Workload, Measurement] = {}

    def measure(wanted: Sequence[Choice], title: str, *, repeat: int) -> None:
        again = replace(
            campaign,
            stop=replace(campaign.stop, half_width=campaign.stop.half_width / 2**repeat),
            seed=campaign.seed + repeat,
            recalibrate=campaign.recalibrate and not repeat,
        )
        workloads = list(dict.fromkeys(_workload(choice, template) for choice in wanted))
        for row in again.measure(workloads, title=title):
            before = known.get(row.workload)
            if before is None:
                known[row.workload] = row
            elif not row.failure:
                known[row.workload] = pooled(before, row)

    def measured(choices: Sequence[Choice]) -> tuple[Choice, ...]:
        return tuple(replace(each, measured=judged(known[_workload(each, template)], result)) for each in choices)

    measure([*result.winners, *result.baselines], "measuring the winners", repeat=0)
    for repeat in range(1, repeats + 1):
        winners = measured(result.winners)
        unclear = [each for each in winners if each.measured and each.measured.verdict == "ambiguous"]
        if not unclear:
            break
        again = f"{len(unclear)} of {len(winners)} winners are ambiguous and measured again, time {repeat}"
        campaign.feedback.note(again)
        measure(unclear, "measuring on", repeat=repeat)
    return replace(result, winners=measured(result.winners), baselines=measured(result.baselines))


def judged(row: Measurement, result: SearchResult) -> Measured:
    """Measurement of a choice with its verdict on the budget of the result.

    A relative budget is compared with the interleaved base, another one with the value on the scale of its prediction:
    latency on that of the device's calibration. Latency is ambiguous if the device deviates from its calibration but
    was not recalibrated because its speed changed during the session. An interval within one opening (one fresh load of
    all programs) meets no budget.
    """
    budget, quantity = result.budget, result.budget.quantity
    latency = quantity == LATENCY
    if not row.has(quantity):
        failed = row.quantities.get(quantity, Samples(""))
        return Measured(failure=row.failure or failed.failure or f"{quantity} was not measured")
    value, ratio = row.value(quantity), row.ratio_to_reference(quantity)
    overhead = Interval(ratio.lower - 1, ratio.middle - 1, ratio.upper - 1)
    interval, limit = (overhead, budget.limit) if budget.relative else (value, result.limit)
    within_one = row.within_one_opening if latency else math.isinf(value.upper)
    verdict: Verdict = "ambiguous"
    if budget.relative or not latency or abs(row.slowdown) <= CALIBRATION_HOLDS:
        if interval.lower > limit:
            verdict = "missed"
        elif interval.upper <= limit and not within_one:
            verdict = "met"
    guessed = {"composed", "interpolated"} & set(result.origin.split(", "))
    now = row.reference_raw_s if latency else row.reference_value(quantity)
    return Measured(value, overhead, None if guessed else now / result.base - 1, within_one, verdict)


def met(result: SearchResult) -> list[int]:
    """Numbers, from 1, of the winners that meet the budget."""
    rows = enumerate(result.winners, start=1)
    return [number for number, choice in rows if choice.measured and choice.measured.verdict == "met"]


def _workload(choice: Choice, template: Workload) -> Workload:
    graph = template.graph if choice.mode == "swappable" else "cut"
    return replace(template, mode=choice.mode, graph=graph).with_configuration(choice.configuration)
