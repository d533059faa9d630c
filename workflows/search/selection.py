"""Result of a search: winners and baselines, and their file."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptare.core import InputError
from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import between, milliseconds
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.profiler import Configuration
from adaptare.search.training.accuracy import Accuracy
from adaptare.workflows.train.accuracy_table import accuracies_from_json, accuracies_to_json, accuracy_table

SCHEMA = 1


@dataclass(frozen=True)
class Choice:
    """Configuration to deploy: a winner or a baseline.

    Args:
        name: `winner 1`, `uniform 8`, `merged`, …
        mode: Application mode.
        predicted_s: Middle, lower and upper end of the predicted latency, seconds.
        val_loss: Loss on the validation examples, which guided the search; NaN until it is computed.
        test_loss: Loss on the test examples, which guided no choice; NaN until it is computed.
        extrapolates: True if it lies outside the range of the predictor's training rows.
        loss_difference: Test loss minus that of the first winner, paired over the examples: middle, lower and upper
            end; `None` if unknown.
    """

    name: str
    config: Configuration
    mode: str
    predicted_s: tuple[float, float, float]
    val_loss: float = math.nan
    test_loss: float = math.nan
    extrapolates: bool = False
    loss_difference: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Selection:
    """Winners and baselines of a search.

    Args:
        budget_s: Largest allowed latency, seconds.
        base_s: Latency of the base without adapter, seconds.
        winners: Choices from the front, the lowest loss first.
        front: Loss and predicted seconds of all non-dominated candidates.
        evaluations: Number of evaluated configurations, by algorithm.
        origin: Origin of the predicted latencies, see `FittedPredictor.origin`.
        accuracies: On the test questions: majority, untrained, winners and baselines; none without multiple-choice
            data.
    """

    budget: str
    budget_s: float
    base_s: float
    winners: tuple[Choice, ...]
    baselines: tuple[Choice, ...]
    front: tuple[tuple[float, float], ...]
    evaluations: Mapping[str, int]
    origin: str = "predicted"
    accuracies: tuple[Accuracy, ...] = ()

    @property
    def measured_base_s(self) -> float | None:
        """Measured latency of the base, seconds; `None` if it was composed or interpolated."""
        guessed = {"composed", "interpolated"} & set(self.origin.split(", "))
        return None if guessed else self.base_s


def selection_to_json(selection: Selection) -> dict[str, Any]:
    """The selection as plain JSON values."""

    def rows(choices: Sequence[Choice]) -> list[dict[str, Any]]:
        return [
            {
                "name": choice.name,
                "mode": choice.mode,
                "sites": dict(choice.config.ranks),
                **({"widths": dict(choice.config.widths)} if choice.config.widths else {}),
                **({"left_out": list(choice.config.left_out)} if choice.config.left_out else {}),
                "predicted_s": choice.predicted_s[0],
                "predicted_lower_s": choice.predicted_s[1],
                "predicted_upper_s": choice.predicted_s[2],
                "val_loss": choice.val_loss,
                "test_loss": choice.test_loss,
                "extrapolates": choice.extrapolates,
                "loss_difference": choice.loss_difference,
            }
            for choice in choices
        ]

    return {
        "budget": selection.budget,
        "budget_s": selection.budget_s,
        "base_s": selection.base_s,
        "winners": rows(selection.winners),
        "baselines": rows(selection.baselines),
        "front": [list(point) for point in selection.front],
        "evaluations": dict(selection.evaluations),
        "origin": selection.origin,
        "accuracies": accuracies_to_json(selection.accuracies),
    }


@dataclass(frozen=True)
class SearchReport:
    """Report of a selection, with its file and the level of the predicted intervals.

    Args:
        polished: PEFT folder of the first winner after further training, if there was any.
    """

    selection: Selection
    file: Path
    level: float
    polished: Path | None = None
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        selection = self.selection
        columns: tuple[Column[Choice], ...] = (
            Column("", lambda choice: choice.name),
            Column("sites", lambda choice: str(len(choice.config.ranks)), 1),
            Column("ranks of how many linears", lambda choice: choice.config.describe(), 2, folds=True),
            Column(f"{selection.origin} ms", lambda choice: milliseconds(choice.predicted_s[0])),
            Column(f"{self.level:.0%} interval", lambda choice: between(*choice.predicted_s[1:], milliseconds)),
            Column("loss", lambda choice: f"{choice.val_loss:.3f}"),
            Column("test loss", lambda choice: f"{choice.test_loss:.3f}"),
            Column("to winner 1, 95 %", _difference, 3),
        )
        base = f"{milliseconds(selection.budget_s)} ms; base {milliseconds(selection.base_s)} ms"
        yield Table(f"Budget {selection.budget}: {base}", columns, (*selection.winners, *selection.baselines))
        if selection.accuracies:
            yield accuracy_table(selection.accuracies, "test")
        if outside := [choice.name for choice in selection.winners if choice.extrapolates]:
            yield Note(
                f"outside the profiled range of the predictor: {', '.join(outside)}; intervals are not valid there"
            )
        if self.polished:
            yield f"The first winner with further training, for PEFT: {self.polished}"
        only = "only a measurement can say that a budget is met"
        yield f"written: {self.file}; {only}; next: adaptare verify {self.file}"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        polished = {"polished": str(self.polished)} if self.polished else {}
        return {"file": str(self.file), **polished, **selection_to_json(self.selection)}


def _difference(choice: Choice) -> str:
    if choice.loss_difference is None:
        return ""
    middle, lower, upper = (f"{loss:+.3f}" for loss in choice.loss_difference)
    return f"{middle} [{lower}, {upper}]"


def save_selection(selection: Selection, file: Path, *, folder: Path, predictor: Path) -> None:
    """Writes a selection with the paths of its super-adapter and predictor relative to the file.

    Relative paths allow moving all of them together, and using the file from any working folder.
    """
    places = {
        name: os.path.relpath(place, file.parent) for name, place in (("folder", folder), ("predictor", predictor))
    }
    write_versioned(file, {**places, **selection_to_json(selection)}, schema=SCHEMA)


def load_selection(file: Path) -> tuple[Selection, Path, Path]:
    """Selection, folder of its super-adapter, and path of its predictor. Raises `InputError` for another file."""
    otherwise = f"{str(file)!r} is no result of a search; make one with: adaptare search"
    content = read_versioned(file, schema=SCHEMA, otherwise=otherwise)
    try:
        selection = Selection(
            budget=content["budget"],
            budget_s=float(content["budget_s"]),
            base_s=float(content["base_s"]),
            winners=_choices(content["winners"]),
            baselines=_choices(content["baselines"]),
            front=tuple((loss, seconds) for loss, seconds in content["front"]),
            evaluations=content["evaluations"],
            origin=content.get("origin", "predicted"),
            accuracies=accuracies_from_json(content.get("accuracies", [])),
        )
        folder, predictor = file.parent / content["folder"], file.parent / content["predictor"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(otherwise) from error
    if not selection.winners:
        raise InputError(f"{str(file)!r} names no winner; search again with a larger budget or more evaluations")
    return selection, folder, predictor


def _choices(rows: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    ends = ("predicted_s", "predicted_lower_s", "predicted_upper_s")
    return tuple(
        Choice(
            row["name"],
            Configuration.of(row["sites"], widths=row.get("widths"), left_out=row.get("left_out", ())),
            row["mode"],
            (row[ends[0]], row[ends[1]], row[ends[2]]),
            row["val_loss"],
            row["test_loss"],
            row.get("extrapolates", False),
            tuple(row["loss_difference"]) if row.get("loss_difference") else None,
        )
        for row in rows
    )
