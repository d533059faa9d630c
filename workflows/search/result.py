"""Result of a search, of a shrink and of a verification: winners and baselines, and their file."""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.core.versioned_json import read_versioned, versioned, write_versioned
from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Mode, Phase, Quantisation
from adaptare.profiler.analysis import LEVEL, Interval
from adaptare.profiler.workloads import IN_WEIGHTS
from adaptare.search.budget import Budget
from adaptare.search.training import Accuracy
from adaptare.workflows.calibrating import Recalibration

SCHEMA: Final = 2
# Row of the first winner after further training, whose weights are in a folder of their own.
POLISHED: Final = "winner polished"
# File of the result of shrinking an adapter.
SHRUNK: Final = "shrink.json"
Verdict = Literal["met", "missed", "ambiguous"]


@dataclass(frozen=True)
class Measured:
    """Measurement of a choice, in the SI unit of the limited quantity.

    Args:
        value: The quantity in this session; `None` if it could not be measured.
        overhead: Relative to the interleaved base.
        slowdown: Relative slowdown of the base since the predictor was calibrated; `None` if unknown.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
        verdict: Position of an interval of the given confidence: within the budget, above it, or neither; `None` if not
            measured.
        failure: Reason if it could not be measured.
        confidence: That of the verdict, higher than the 95 % of the other intervals where there are several winners, or
            may be further measurements.
    """

    value: Interval | None = None
    overhead: Interval | None = None
    slowdown: float | None = None
    too_few_openings: int = 0
    verdict: Verdict | None = None
    failure: str = ""
    confidence: float = LEVEL


@dataclass(frozen=True)
class Choice:
    """Configuration to deploy: a winner or a baseline.

    Args:
        name: `winner 1`, `uniform 8`, `merged`, …
        mode: Application mode.
        predicted: Predicted value of the limited quantity, SI unit.
        val_loss: Loss on the validation examples, which guided the search; `None` until it is computed.
        test_loss: Loss on the test examples, which guided no choice; `None` until it is computed.
        loss_difference: Test loss minus that of the first winner, paired over the examples; `None` if unknown.
        energy_lost: Mean square of what the outputs of its linears lose by a cut, as a share of that of the whole
            adapter; `None` without a cut.
        found_by: Of a winner: the algorithm, and the kinds of linears it began with if not all; the start of its race,
            `random search`, or the baseline that it is.
        extrapolates: True if it lies outside the range of the predictor's training rows.
        measured: Set by a verification.
    """

    name: str
    configuration: Configuration
    mode: Mode
    predicted: Interval
    val_loss: float | None = None
    test_loss: float | None = None
    loss_difference: Interval | None = None
    energy_lost: float | None = None
    found_by: str = ""
    extrapolates: bool = False
    measured: Measured | None = None


@dataclass(frozen=True)
class Contribution:
    """Cost of the adapters that one axis sets, or of one linear, and what they gain.

    Both compare with the same configuration without adapters on these linears.

    Args:
        linears: Paths of these linears.
        cost: Predicted increase of the limited quantity, SI unit.
        gain: Estimated decrease of the loss, nats per token; negative where the loss would be lower without them.
    """

    linears: tuple[str, ...]
    cost: float
    gain: float


@dataclass(frozen=True)
class Place:
    """Device and workload that a result is for.

    Args:
        model: Name of the base model.
        device: Spelling of the device.
        quantisation: Quantisation of the base's weights.
        dtype: Data type of everything else.
        length: Tokens of prefill, or cached positions of decode.

    Raises:
        InputError: The length is negative.
    """

    model: str
    device: str
    quantisation: Quantisation
    dtype: str
    phase: Phase
    length: int

    def __post_init__(self) -> None:
        if self.length < 0:
            raise InputError(f"length must be 0 or more, not {self.length}")


@dataclass(frozen=True)
class SearchResult:
    """Winners and baselines under a budget.

    Args:
        limit: Largest allowed value, in the SI unit of the budget's quantity.
        base: Value of the base without adapter.
        level: Coverage probability of the predicted intervals.
        origin: Origin of the predictions, see `FittedPredictor.origin`.
        winners: Choices within the budget; by the default algorithm, one for all of it and others for smaller parts.
        evaluations: Number of evaluated configurations, by algorithm; of a race, see `Raced.evaluations`.
        front: Loss and predicted value of all non-dominated candidates; empty under further budgets.
        accuracies: On the test questions: majority, untrained, winners and baselines; none without multiple-choice
            data.
        folder: Folder of the super-adapter, or of the shrunk adapter.
        predictor: File of the predictor.
        file: File of this result.
        polished: PEFT folder of the first winner after further training, if there was any.
        recalibration: Base at the time of the search; `None` for predictions of any session.
        bf16: True if losses were computed in bfloat16.
        contributions: Of each axis on which the first winner has an adapter and need not have one, or of each linear if
            it breaks ties of the space; none where ranks cost nothing, layers or widths are chosen too, or a rank of
            the winner is no choice.
        further: The same choices under each further budget; all budgets are to be met.

    Raises:
        InputError: A number is out of range.
    """

    budget: Budget
    limit: float
    base: float
    level: float
    origin: str
    place: Place
    winners: tuple[Choice, ...]
    baselines: tuple[Choice, ...]
    evaluations: Mapping[str, int]
    front: tuple[tuple[float, float], ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    folder: Path | None = None
    predictor: Path | None = None
    file: Path | None = None
    polished: Path | None = None
    recalibration: Recalibration | None = None
    bf16: bool = False
    contributions: tuple[Contribution, ...] = ()
    further: tuple["SearchResult", ...] = ()

    def __post_init__(self) -> None:
        for name in ("limit", "base"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a finite number above 0, not {getattr(self, name)}")
        if not 0 < self.level < 1:
            raise InputError(f"level must lie between 0 and 1, not {self.level}")
        for choice in (*self.winners, *self.baselines):
            if any(map(math.isnan, (choice.predicted.lower, choice.predicted.middle, choice.predicted.upper))):
                raise InputError(f"predicted of {choice.name} must be numbers, not {choice.predicted}")

    @property
    def under_each(self) -> tuple["SearchResult", ...]:
        """The result under each budget."""
        return (replace(self, further=()), *self.further)

    @property
    def merged_instead(self) -> Choice | None:
        """A merged choice within all budgets that is not worse than a first winner apart, by the paired interval."""
        apart = self.winners and self.winners[0].mode not in IN_WEIGHTS
        beyond = {row.name for each in self.under_each for row in each.baselines if row.predicted.upper > each.limit}
        within = [row for row in self.baselines if row.name not in beyond]
        rows = [row for row in within if apart and row.mode in IN_WEIGHTS and row.loss_difference]
        return next((row for row in rows if row.loss_difference and row.loss_difference.lower <= 0), None)


def place_of(model: str, predictor: FittedPredictor) -> Place:
    """Model, and device and workload of a predictor."""
    device, template = predictor.device.device, predictor.template
    return Place(model, device, template.quantisation, template.dtype, template.phase, template.length)


PATHS: Final = ("folder", "predictor", "polished")


def save_result(result: SearchResult, file: Path) -> SearchResult:
    """Writes a result with its paths relative to the file, and returns it with the file.

    Relative paths allow moving all of them together, and using the file from any working folder.
    """
    write_versioned(file, _relative(result, file), schema=SCHEMA)
    return replace(result, file=file)


def text_of(result: SearchResult, file: Path) -> str:
    """Text that `save_result` writes into a file."""
    return versioned(_relative(result, file), schema=SCHEMA)


def _relative(result: SearchResult, file: Path) -> dict[str, Any]:
    def below(path: Path) -> Path:
        """Relative path that holds where a folder is a link, behind which `..` is another folder."""
        return Path(os.path.relpath(path.parent.resolve() / path.name, file.parent.resolve()))

    content: dict[str, Any] = to_json(_moved(replace(result, file=None), below))
    return content


def _moved(result: SearchResult, move: Callable[[Path], Path]) -> SearchResult:
    """The result with other paths, under further budgets too."""
    paths: dict[str, Any] = {name: move(path) for name in PATHS if (path := getattr(result, name)) is not None}
    return replace(result, **paths, further=tuple(_moved(each, move) for each in result.further))


def load_result(file: Path) -> SearchResult:
    """Reads a result that has a winner. Raises `InputError` for another file."""
    otherwise = f"{str(file)!r} is no result of a search; search first"
    content = read_versioned(file, schema=SCHEMA, otherwise=otherwise)
    if "budget_s" in content:
        raise InputError(f"{str(file)!r} was written by an earlier version; search again")
    try:
        result = _moved(from_json(SearchResult, content), file.parent.joinpath)
    except (InputError, TypeError) as error:
        raise InputError(f"{otherwise}; {error}") from error
    if not result.winners:
        raise InputError(f"{str(file)!r} names no winner; search again with a larger budget or more evaluations")
    return replace(result, file=file)
