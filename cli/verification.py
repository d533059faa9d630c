"""Measuring what was chosen, and what it says about the budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from adaptare.campaign import measure
from adaptare.console import AMBIGUOUS, ANSWER_IS_NO, WORLD_FAILED, Console, between, milliseconds, percent
from adaptare.devices import Device
from adaptare.profiler import CALIBRATION_HOLDS, Interval, Measurement, Programs, Store, Workload, pooled
from adaptare.search import read_budget
from adaptare.selection import Choice, Selection, selection_to_json

BudgetVerdict = Literal["met", "missed", "ambiguous"]


@dataclass(frozen=True)
class Verified:
    """A choice and its measurement; `None`, and why, if it could not be measured."""

    choice: Choice
    measurement: Measurement | None
    failure: str = ""

    def verdict(self, selection: Selection) -> BudgetVerdict | None:
        """Position of the measured interval: all within the budget, all above it, or neither; `None` if not measured.

        An overhead is one over the base that was measured beside it. A latency is judged by seconds of its own session,
        and is ambiguous where the device is off its calibration and yet was not calibrated anew, because it changed its
        speed meanwhile. An interval within one opening meets no budget.
        """
        found = self.measurement
        if found is None:
            return None
        budget = read_budget(selection.budget)
        interval, limit = found.raw_interval, selection.budget_s
        if budget.quantity == "overhead":
            interval, limit = found.overhead, budget.limit
        elif abs(found.slowdown) > CALIBRATION_HOLDS:
            return "ambiguous"
        if interval.lower > limit:
            return "missed"
        return "met" if interval.upper <= limit and not found.within_one_opening else "ambiguous"

    def meets(self, selection: Selection) -> bool:
        """True if the budget is met for certain."""
        return self.verdict(selection) == "met"

    def slowdown(self, selection: Selection) -> float | None:
        """Share by which the base was slower than when the search's predictor was calibrated; `None` if unknown."""
        if self.measurement is None or selection.measured_base_s is None:
            return None
        return self.measurement.reference_raw_s / selection.measured_base_s - 1


def verify_choices(
    selection: Selection,
    template: Workload,
    *,
    device: Device,
    half_width: float,
    seconds: float,
    openings: int | None,
    repeats: int,
    seed: int,
    store: Store,
    console: Console,
    recalibrate: bool = False,
    programs: Programs | None = None,
) -> tuple[tuple[Verified, ...], tuple[Verified, ...]]:
    """Measures winners and baselines in one session, then the ambiguous winners longer.

    Two choices that are the same workload are measured once.

    Args:
        repeats: How often ambiguous winners are measured again, each time as long as before; all of it counts.

    Returns:
        Winners and baselines, as the selection has them.
    """
    known: dict[Workload, Measurement] = {}

    def measure_all(wanted: Sequence[Workload], title: str, *, repeat: int) -> None:
        for each in measure(
            wanted,
            device=device,
            half_width=half_width / 2**repeat,
            seconds=seconds,
            seed=seed + repeat,
            openings=openings,
            store=store,
            console=console,
            title=title,
            recalibrate=recalibrate and not repeat,
            programs=programs,
        ):
            before = known.get(each.workload)
            if before is None:
                known[each.workload] = each
            elif not each.failure:
                known[each.workload] = pooled(before, each)

    def verified(choices: Sequence[Choice]) -> tuple[Verified, ...]:
        found = [known[_workload(each, template)] for each in choices]
        return tuple(
            Verified(choice, None if each.failure else each, each.failure)
            for choice, each in zip(choices, found, strict=True)
        )

    every = [*selection.winners, *selection.baselines]
    measure_all(list(dict.fromkeys(_workload(each, template) for each in every)), "measuring the winners", repeat=0)
    for repeat in range(1, repeats + 1):
        winners = verified(selection.winners)
        unclear = [each.choice for each in winners if each.verdict(selection) == "ambiguous"]
        if not unclear:
            break
        console.note(f"{len(unclear)} of {len(winners)} winners are ambiguous and measured again, time {repeat}")
        measure_all(list(dict.fromkeys(_workload(each, template) for each in unclear)), "measuring on", repeat=repeat)
    return verified(selection.winners), verified(selection.baselines)


def _workload(choice: Choice, template: Workload) -> Workload:
    graph = template.graph if choice.mode == "swappable" else "cut"
    return replace(template, mode=choice.mode, graph=graph).with_configuration(choice.config)  # type: ignore[arg-type]


def conclude(winners: Sequence[Verified], selection: Selection, console: Console) -> int:
    """Says what follows where no winner meets the budget. Returns the exit code."""
    verdicts = [each.verdict(selection) for each in winners]
    if "met" in verdicts:
        return 0
    if None in verdicts:
        return WORLD_FAILED
    if "ambiguous" in verdicts:
        console.note(
            f"whether a winner is within {selection.budget} is not certain yet; measure longer with --repeats or "
            "--seconds, on a quieter machine, or search with a lower budget"
        )
        return AMBIGUOUS
    slowdown = winners[0].slowdown(selection) or 0.0
    advice = "profile more, or search with a lower budget"
    if abs(slowdown) > CALIBRATION_HOLDS:
        advice = f"the base is {percent(slowdown)} off what it took when profiled: profile, fit and search again"
    console.note(f"no winner is within {selection.budget}; {advice}")
    return ANSWER_IS_NO


def show_verified(
    winners: Sequence[Verified], others: Sequence[Verified], selection: Selection, console: Console
) -> None:
    """One table, best loss first among the winners; measured times are seconds of this session."""
    found = next((each for each in (*winners, *others) if each.measurement), None)
    base = f"base {milliseconds(selection.base_s)} ms"
    if found and found.measurement:
        slowdown = found.slowdown(selection)
        base += f", in this session {milliseconds(found.measurement.reference_raw_s)} ms"
        base += "" if slowdown is None else f" ({percent(slowdown)})"
    console.table(
        f"Budget {selection.budget}: {milliseconds(selection.budget_s)} ms; {base}",
        ["", "sites", "predicted ms", "measured ms", "95 %", "overhead", "95 %", "budget", "loss", "test loss"],
        [_row(each, selection) for each in (*winners, *others)],
    )


def verified_to_json(winners: Sequence[Verified], others: Sequence[Verified], selection: Selection) -> dict[str, Any]:
    """The selection with what was measured beside what was predicted."""
    content = selection_to_json(selection)
    for rows, verified in ((content["winners"], winners), (content["baselines"], others)):
        for row, each in zip(rows, verified, strict=True):
            found = each.measurement
            row.update(
                {
                    **_ends("measured", "_s", found.raw_interval if found else None),
                    **_ends("overhead", "", found.overhead if found else None),
                    "slowdown": each.slowdown(selection),
                    "within_one_opening": found.within_one_opening if found else None,
                    "verdict": each.verdict(selection),
                    "meets_budget": each.meets(selection),
                    "failure": each.failure,
                }
            )
    return content


def _ends(name: str, unit: str, interval: Interval | None) -> dict[str, float | None]:
    lower, middle, upper = (interval.lower, interval.middle, interval.upper) if interval else (None, None, None)
    return {f"{name}{unit}": middle, f"{name}_lower{unit}": lower, f"{name}_upper{unit}": upper}


def _row(each: Verified, selection: Selection) -> list[str]:
    choice, found = each.choice, each.measurement
    measured = ["failed", "", "", "", "no"]
    if found:
        raw, over = found.raw_interval, found.overhead
        measured = [
            milliseconds(raw.middle),
            between(milliseconds(raw.lower), milliseconds(raw.upper), within_one_opening=found.within_one_opening),
            percent(over.middle),
            between(percent(over.lower), percent(over.upper), within_one_opening=found.within_one_opening),
            each.verdict(selection) or "",
        ]
    losses = [f"{choice.val_loss:.3f}", f"{choice.test_loss:.3f}"]
    return [choice.name, str(len(choice.config.ranks)), milliseconds(choice.predicted_s[0]), *measured, *losses]
