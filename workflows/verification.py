"""Verification: choices of a search, remeasured and compared with the budget."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.core.units import displayed
from adaptare.predictor import load_predictor
from adaptare.profiler import Measurement, Programs, Store, Workload, programs_for
from adaptare.profiler.analysis import look_errors, too_few
from adaptare.profiler.measuring import PreciseWithin, probes_of
from adaptare.profiler.store import LATENCY, Samples, pooled
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.search.result import Choice, Measured, SearchResult, Verdict, load_result
from adaptare.workflows.target import named_target

# Probability that a winner is met with its true value on the budget, and that it is missed.
ERROR: Final = 0.025


@dataclass(frozen=True)
class VerifyRequest:
    """Measurement of the winners and baselines of a search.

    Args:
        front: File of the search.
        device: Spelling of the device; `None` for that of the predictor.
        stop: Precision and time limit.
        programs: Builder of the device's programs; `None` for the one that is registered for its runtime.
        repeats: Further measurements of all choices, as long as a winner is ambiguous, each as long as the first; all
            samples are pooled.
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
    """Measures winners and baselines of a search in one session for each budget, and compares them with it.

    Raises:
        InputError: A file cannot be read, the predictor was replaced since the search or is of another device, or one
            device is named for budgets of several.
    """
    result = load_result(request.front)
    devices = dict.fromkeys(each.place.device for each in result.under_each)
    if request.device is not None and len(devices) > 1:
        raise InputError(
            f"{str(request.front)!r} has budgets of {' and '.join(devices)}, which are measured on their own devices; "
            "leave the device out",
            parameter="device",
        )
    first, *further = [_verified(each, request, feedback) for each in result.under_each]
    return replace(first, further=tuple(further))


def _verified(result: SearchResult, request: VerifyRequest, feedback: Feedback) -> SearchResult:
    """The choices under one budget, measured."""
    if result.predictor is None:
        raise InputError(f"{str(request.front)!r} names no predictor; search again")
    fitted = load_predictor(result.predictor).at(result.place.length)
    searched = result.recalibration.fitted_s if result.recalibration else result.base
    if fitted.base_value != searched:
        unit, text = displayed(fitted.unit)
        raise InputError(
            f"{result.predictor} is not the predictor of this search any more: its base has {text(fitted.base_value)} "
            f"{unit}, that of the search {text(searched)} {unit}; search again, and write every predictor to a file "
            "of its own"
        )
    if request.device is None and result.place.device != fitted.device.device:
        raise InputError(
            f"{str(request.front)!r} is of device {result.place.device!r}, and its predictor of "
            f"{fitted.device.device!r}; name the device to measure on, or search again",
            parameter="device",
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
        probes=probes_of((LATENCY, quantity)),
    )
    result = replace(result, place=replace(result.place, device=info.device))
    return verify_choices(result, fitted.template, campaign, repeats=request.repeats)


def verify_choices(result: SearchResult, template: Workload, campaign: Campaign, *, repeats: int) -> SearchResult:
    """The result with measured choices: all in one session, and all again as long as a winner is ambiguous.

    Choices with the same workload are measured once. A winner with its true value on the budget is met with a
    probability of at most 2.5 % through all repeats (`look_errors`), and any of several such winners with one of at
    most 5 %: in their order, winners are judged at 2.5 % up to the first that is not met, and share 2.5 % after it.

    Args:
        template: Workload of the base.
        repeats: See `VerifyRequest`.
    """
    rows: dict[Workload, Measurement] = {}
    choices = [*result.winners, *result.baselines]
    workloads = dict.fromkeys(_workload(choice, template) for choice in choices)
    refused = _refused(workloads, campaign.programs)
    for look in range(repeats + 1):
        again = replace(
            campaign,
            stop=replace(campaign.stop, half_width=campaign.stop.half_width / 2**look),
            seed=campaign.seed + look,
            recalibrate=campaign.recalibrate and not look,
        )
        wanted = [each for each in workloads if each not in refused and (each not in rows or not rows[each].failure)]
        for row in again.measure(wanted, title="measuring on" if look else "measuring the winners"):
            if row.workload not in rows:
                rows[row.workload] = row
            elif not row.failure:
                rows[row.workload] = pooled(rows[row.workload], row)
        result = _with_verdicts(result, {**rows, **refused}, template, look=look, looks=repeats + 1)
        unclear = sum(_verdict(each) == "ambiguous" for each in result.winners)
        if not unclear:
            break
        if look < repeats:
            ambiguous = f"{unclear} of {len(result.winners)} winners are ambiguous"
            campaign.feedback.note(f"{ambiguous}; all choices are measured again, time {look + 1}")
    return result


def _refused(workloads: Iterable[Workload], programs: Programs) -> dict[Workload, Measured]:
    """Workloads that the runtime does not run, such as baselines in another application mode, with its reason."""
    refused = dict[Workload, Measured]()
    for workload in workloads:
        try:
            programs.check(workload)
        except InputError as error:
            refused[workload] = Measured(failure=str(error))
    return refused


def _with_verdicts(
    result: SearchResult, rows: Mapping[Workload, Measured | Measurement], template: Workload, *, look: int, looks: int
) -> SearchResult:
    """The result with judged choices; winners after the first that is not met share the error of one."""

    def of(choice: Choice, error: float) -> Choice:
        row, error = rows[_workload(choice, template)], look_errors(looks, error)[look]
        return replace(choice, measured=row if isinstance(row, Measured) else judged(row, result, error=error))

    winners, error = list[Choice](), ERROR
    for number, choice in enumerate(result.winners, start=1):
        winners.append(of(choice, error))
        if error == ERROR and _verdict(winners[-1]) != "met":
            error = ERROR / max(1, len(result.winners) - number)
    return replace(result, winners=tuple(winners), baselines=tuple(of(each, ERROR) for each in result.baselines))


def judged(row: Measurement, result: SearchResult, *, error: float = ERROR) -> Measured:
    """Measurement of a choice with its verdict on the budget of the result.

    A relative budget is compared with the interleaved base, another one with the value in this session. Fewer
    than four openings (fresh loads of all programs) are ambiguous.

    Args:
        error: Probability of `met` with the true value on the budget, and of `missed`.
    """
    budget, quantity = result.budget, result.budget.quantity
    latency = quantity == LATENCY
    if not row.has(quantity):
        failed = row.quantities.get(quantity, Samples(""))
        return Measured(failure=row.failure or failed.failure or f"{quantity} was not measured")
    value = row.raw_interval if latency else row.value(quantity)
    ratio, openings, confidence = row.ratio_to_reference(quantity), row.opening_count(quantity), 1 - 2 * error
    tested = (ratio if budget.relative else value).at(confidence, openings=openings)
    interval, limit = (tested.over_one, budget.limit) if budget.relative else (tested, result.limit)
    few = too_few(openings)
    verdict: Verdict = "ambiguous"
    if not few and interval.lower > limit:
        verdict = "missed"
    elif not few and interval.upper <= limit:
        verdict = "met"
    guessed = {"composed", "interpolated"} & set(result.origin.split(", "))
    now = row.reference_raw_s if latency else row.reference_value(quantity)
    slowdown = None if guessed else now / result.base - 1
    return Measured(value, ratio.over_one, slowdown, few, verdict, confidence=confidence)


def _verdict(choice: Choice) -> Verdict | None:
    return choice.measured.verdict if choice.measured else None


def verdicts(result: SearchResult) -> list[Verdict | None]:
    """Verdict of each winner over all budgets: missed if one is, and met if all are."""
    worst: tuple[Verdict | None, ...] = ("missed", None, "ambiguous", "met")
    rows = zip(*(map(_verdict, each.winners) for each in result.under_each), strict=True)
    return [min(row, key=worst.index) for row in rows]


def met(result: SearchResult) -> list[int]:
    """Numbers, from 1, of the winners that meet all budgets."""
    return [number for number, verdict in enumerate(verdicts(result), start=1) if verdict == "met"]


def _workload(choice: Choice, template: Workload) -> Workload:
    graph = template.graph if choice.mode == "swappable" else "cut"
    return replace(template, mode=choice.mode, graph=graph).with_configuration(choice.configuration)
