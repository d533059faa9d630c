"""Verification: choices of a search, remeasured and compared with the budget."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from adaptare.core import InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import between, milliseconds, percent
from adaptare.predictor import load_predictor
from adaptare.profiler import Measurement, Workload
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.measuring.calibration import CALIBRATION_HOLDS
from adaptare.profiler.store.measurement import pooled
from adaptare.search import read_budget
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.search.selection import Choice, Selection, load_selection, selection_to_json
from adaptare.workflows.target import Target, named_target
from adaptare.workflows.train.accuracy_table import accuracy_table

BudgetVerdict = Literal["met", "missed", "ambiguous"]


@dataclass(frozen=True)
class Verified:
    """Choice and its measurement; `None` with a reason if it could not be measured."""

    choice: Choice
    measurement: Measurement | None
    failure: str = ""

    def verdict(self, selection: Selection) -> BudgetVerdict | None:
        """Position of the measured interval: all within the budget, all above it, or neither; `None` if not measured.

        A relative budget is compared with the interleaved base. A latency is compared in seconds of its session, and is
        ambiguous if the device deviates from its calibration but was not recalibrated because its speed changed during
        the session. An interval within one opening (one fresh load of all programs) meets no budget.
        """
        measurement = self.measurement
        if measurement is None:
            return None
        budget = read_budget(selection.budget)
        interval, limit = measurement.raw_interval, selection.budget_s
        if budget.relative:
            interval, limit = measurement.overhead, budget.limit
        elif abs(measurement.slowdown) > CALIBRATION_HOLDS:
            return "ambiguous"
        if interval.lower > limit:
            return "missed"
        return "met" if interval.upper <= limit and not measurement.within_one_opening else "ambiguous"

    def slowdown(self, selection: Selection) -> float | None:
        """Relative slowdown of the base since the search's predictor was calibrated; `None` if unknown."""
        if self.measurement is None or selection.measured_base_s is None:
            return None
        return self.measurement.reference_raw_s / selection.measured_base_s - 1

    def to_json(self, selection: Selection) -> dict[str, Any]:
        """Measurement and verdict."""
        measurement = self.measurement
        return {
            **_ends("measured", "_s", measurement.raw_interval if measurement else None),
            **_ends("overhead", "", measurement.overhead if measurement else None),
            "slowdown": self.slowdown(selection),
            "within_one_opening": measurement.within_one_opening if measurement else None,
            "verdict": self.verdict(selection),
            "meets_budget": self.verdict(selection) == "met",
            "failure": self.failure,
        }


@dataclass(frozen=True)
class Verification:
    """Result of `verify_choices`.

    Args:
        place: Device, phase, length and weights, for JSON.
    """

    selection: Selection
    winners: Sequence[Verified]
    baselines: Sequence[Verified] = ()
    place: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> list[int]:
        """Numbers, from 1, of the winners that meet the budget."""
        verdicts = (winner.verdict(self.selection) for winner in self.winners)
        return [number for number, verdict in enumerate(verdicts, start=1) if verdict == "met"]

    @property
    def exit_code(self) -> ExitCode:
        """0 if a winner meets the budget, 3 if one was not measured, 4 if one is ambiguous, 1 if all missed it."""
        verdicts = {winner.verdict(self.selection) for winner in self.winners}
        codes = {"met": ExitCode.DONE, None: ExitCode.WORLD_FAILED, "ambiguous": ExitCode.AMBIGUOUS}
        return next((code for verdict, code in codes.items() if verdict in verdicts), ExitCode.ANSWER_IS_NO)

    def sections(self) -> Iterator[Section]:
        """Table in seconds of this session, winners sorted by loss, and advice if no winner meets the budget."""
        selection, every = self.selection, (*self.winners, *self.baselines)
        base = f"base {milliseconds(selection.base_s)} ms"
        for measured in [verified for verified in every if verified.measurement][:1]:
            slowdown = measured.slowdown(selection)
            base_s = measured.measurement.reference_raw_s  # type: ignore[union-attr]
            base += f", in this session {milliseconds(base_s)} ms"
            base += "" if slowdown is None else f" ({percent(slowdown)})"
        title = f"Budget {selection.budget}: {milliseconds(selection.budget_s)} ms; {base}"
        yield Table(title, _columns(selection), every)
        if selection.accuracies:
            yield accuracy_table(selection.accuracies, "test")
        if self.exit_code == ExitCode.AMBIGUOUS:
            yield Note(
                f"whether a winner is within {selection.budget} is not certain yet; measure longer with --repeats or "
                "--seconds, on a quieter machine, or search with a lower budget"
            )
        if self.exit_code == ExitCode.ANSWER_IS_NO:
            slower = self.winners[0].slowdown(selection) or 0.0
            advice = "profile more, or search with a lower budget"
            if abs(slower) > CALIBRATION_HOLDS:
                advice = f"the base is {percent(slower)} off what it took when profiled: profile, fit and search again"
            yield Note(f"no winner is within {selection.budget}; {advice}")

    def to_json(self) -> dict[str, Any]:
        """The selection with measured and predicted latencies."""
        content = selection_to_json(self.selection)
        for rows, verified in ((content["winners"], self.winners), (content["baselines"], self.baselines)):
            for row, choice in zip(rows, verified, strict=True):
                row.update(choice.to_json(self.selection))
        return {**self.place, **content}


@dataclass(frozen=True)
class Choices:
    """Choices of a search and the device to measure them on.

    Args:
        template: Their workload without adapters.
        target: Device and weights of the base.
    """

    selection: Selection
    template: Workload
    target: Target


def load_choices(front: Path, device: str | None) -> Choices:
    """Choices of a search, with a device that its predictor covers.

    Args:
        front: File of the search.
        device: Device as on the command line; `None` for that of the predictor.

    Raises:
        InputError: A file cannot be read, or the predictor was replaced since the search or is of another device.
    """
    selection, _, predictor = load_selection(front)
    fitted = load_predictor(predictor)
    if fitted.base_value != selection.base_s:
        raise InputError(
            f"{predictor} is not the predictor of this search any more: its base takes "
            f"{milliseconds(fitted.base_value)} ms, that of the search {milliseconds(selection.base_s)} ms; "
            "search again, and give every predictor a name of its own with: adaptare fit --output"
        )
    target = named_target(device, fitted.device, fitted.template)
    load_predictor(predictor, device=target.device.info())
    return Choices(selection, fitted.template, target)


def verify_choices(choices: Choices, campaign: Campaign, *, repeats: int) -> Verification:
    """Measures winners and baselines in one session, then ambiguous winners again.

    Choices with the same workload are measured once.

    Args:
        repeats: Further measurements of ambiguous winners, each as long as the first; all samples are pooled.
    """
    known: dict[Workload, Measurement] = {}
    selection, template, stop = choices.selection, choices.template, campaign.stop

    def measure(wanted: Sequence[Choice], title: str, *, repeat: int) -> None:
        again = replace(
            campaign,
            stop=replace(stop, half_width=stop.half_width / 2**repeat),
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

    def verified(choices: Sequence[Choice]) -> tuple[Verified, ...]:
        rows = [known[_workload(choice, template)] for choice in choices]
        return tuple(
            Verified(choice, None if row.failure else row, row.failure)
            for choice, row in zip(choices, rows, strict=True)
        )

    measure([*selection.winners, *selection.baselines], "measuring the winners", repeat=0)
    for repeat in range(1, repeats + 1):
        winners = verified(selection.winners)
        unclear = [winner.choice for winner in winners if winner.verdict(selection) == "ambiguous"]
        if not unclear:
            break
        again = f"{len(unclear)} of {len(winners)} winners are ambiguous and measured again, time {repeat}"
        campaign.feedback.note(again)
        measure(unclear, "measuring on", repeat=repeat)
    place = {**choices.target.place, "phase": template.phase, "length": template.length}
    return Verification(selection, verified(selection.winners), verified(selection.baselines), place)


def _workload(choice: Choice, template: Workload) -> Workload:
    graph = template.graph if choice.mode == "swappable" else "cut"
    return replace(template, mode=choice.mode, graph=graph).with_configuration(choice.config)  # type: ignore[arg-type]


def _columns(selection: Selection) -> tuple[Column[Verified], ...]:
    def of(text: Callable[[Measurement], str], failed: str = "") -> Callable[[Verified], str]:
        return lambda row: text(row.measurement) if row.measurement else failed

    def interval(measurement: Measurement, ends: Interval, text: Callable[[float], str]) -> str:
        return between(ends.lower, ends.upper, text, within_one_opening=measurement.within_one_opening)

    return (
        Column("", lambda row: row.choice.name),
        Column("sites", lambda row: str(len(row.choice.config.ranks)), 5),
        Column("predicted ms", lambda row: milliseconds(row.choice.predicted_s[0]), 6),
        Column("measured ms", of(lambda measurement: milliseconds(measurement.raw_interval.middle), "failed")),
        Column("95 %", of(lambda measurement: interval(measurement, measurement.raw_interval, milliseconds))),
        Column("overhead", of(lambda measurement: percent(measurement.overhead.middle)), 2),
        Column("95 %", of(lambda measurement: interval(measurement, measurement.overhead, percent)), 3),
        Column("budget", lambda row: row.verdict(selection) or "no"),
        Column("loss", lambda row: f"{row.choice.val_loss:.3f}", 1),
        Column("test loss", lambda row: f"{row.choice.test_loss:.3f}", 4),
    )


def _ends(name: str, unit: str, interval: Interval | None) -> dict[str, float | None]:
    lower, middle, upper = (interval.lower, interval.middle, interval.upper) if interval else (None, None, None)
    return {f"{name}{unit}": middle, f"{name}_lower{unit}": lower, f"{name}_upper{unit}": upper}
