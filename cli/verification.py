"""Measuring what was chosen, and what it says about the budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from adaptare.campaign import interval_of, measure
from adaptare.console import Console, milliseconds, percent
from adaptare.devices import Device
from adaptare.profiler import Measurement, Programs, Store, Workload
from adaptare.search import read_budget
from adaptare.selection import Choice, Selection, selection_to_json


@dataclass(frozen=True)
class Verified:
    """A choice and its measurement; `None`, and why, if it could not be measured."""

    choice: Choice
    measurement: Measurement | None
    failure: str = ""

    def meets(self, selection: Selection) -> bool:
        """Whether the whole measured interval lies within the budget.

        An overhead is one over the base that was measured beside it, which a predicted or composed base is not.
        """
        if self.measurement is None:
            return False
        budget = read_budget(selection.budget)
        if budget.quantity == "overhead":
            return self.measurement.overhead.upper <= budget.limit
        return self.measurement.upper_s <= selection.budget_s


def verify_choices(
    choices: Sequence[Choice],
    template: Workload,
    *,
    device: Device,
    half_width: float,
    seconds: float,
    openings: int | None,
    seed: int,
    store: Store,
    console: Console,
    reference_s: float | None,
    programs: Programs | None = None,
) -> list[Verified]:
    """Measures choices in one session; two that are the same workload are measured once.

    `reference_s` is the base's latency that the budget was made from, so that both are on one scale; `None` where that
    was not measured.
    """
    workloads = [replace(template, mode=each.mode).with_adapter(each.config) for each in choices]  # type: ignore[arg-type]
    measured = measure(
        list(dict.fromkeys(workloads)),
        device=device,
        half_width=half_width,
        seconds=seconds,
        seed=seed,
        openings=openings,
        store=store,
        console=console,
        title="measuring the winners",
        reference_s=reference_s,
        programs=programs,
    )
    by_workload = {each.workload: each for each in measured}
    return [
        Verified(choice, None if found.failure else found, found.failure)
        for choice, found in zip(choices, (by_workload[workload] for workload in workloads), strict=True)
    ]


def show_verified(
    winners: Sequence[Verified], others: Sequence[Verified], selection: Selection, console: Console
) -> None:
    """One table, best loss first among the winners."""
    console.table(
        f"Budget {selection.budget}: {milliseconds(selection.budget_s)} ms; base {milliseconds(selection.base_s)} ms",
        ["", "sites", "predicted ms", "measured ms", "95 % interval", "overhead", "within budget", "loss", "test loss"],
        [_row(each, selection) for each in (*winners, *others)],
    )


def verified_to_json(winners: Sequence[Verified], others: Sequence[Verified], selection: Selection) -> dict[str, Any]:
    """The selection with what was measured beside what was predicted."""
    content = selection_to_json(selection)
    for rows, verified in ((content["winners"], winners), (content["baselines"], others)):
        for row, each in zip(rows, verified, strict=True):
            found = each.measurement
            row["measured_s"] = found.latency_s if found else None
            row["measured_lower_s"] = found.lower_s if found else None
            row["measured_upper_s"] = found.upper_s if found else None
            row["meets_budget"] = each.meets(selection)
            row["failure"] = each.failure
    return content


def _row(each: Verified, selection: Selection) -> list[str]:
    choice, found = each.choice, each.measurement
    measured = ["failed", "", "", "no"]
    if found:
        measured = [
            milliseconds(found.latency_s),
            interval_of(found),
            percent(found.overhead.middle),
            "yes" if each.meets(selection) else "no",
        ]
    losses = [f"{choice.val_loss:.3f}", f"{choice.test_loss:.3f}"]
    return [choice.name, str(len(choice.config)), milliseconds(choice.predicted_s[0]), *measured, *losses]
