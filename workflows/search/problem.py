"""Search problem of one space: the lowest loss under a predicted limit."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core.progress import SILENT, Feedback, Update
from adaptare.predictor import FittedPredictor, Prediction, load_predictor
from adaptare.profiler import Configuration, Mode, Space
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads import IN_WEIGHTS, Dimension
from adaptare.search import (
    Front,
    Limit,
    Objective,
    PredictedLatency,
    PredictedUpperEnd,
    pick_winners,
    search,
)
from adaptare.search.algorithms import algorithm_named
from adaptare.search.budget import Budget, Candidate, candidates_of, covering, feasible, front_of, joined
from adaptare.workflows.calibrating import Recalibration, recalibrated
from adaptare.workflows.search.result import Choice, SearchResult, place_of

Points = NDArray[np.int64]


@dataclass(frozen=True)
class ValueOfBase:
    """Predicts the value of the base for any ranks, because an adapter that exists only merged costs nothing.

    Args:
        base_value: Value of the base, such as its latency.
        unit: SI unit of the value.
    """

    base_value: float
    unit: str

    def predict(self, codes: Points, dimensions: tuple[Dimension, ...], /) -> Prediction:
        """The same value for every row of codes."""
        same = np.full(len(codes), self.base_value)
        return Prediction(same, same, same, np.zeros(len(codes), dtype=np.bool_))


@dataclass(frozen=True)
class Cost:
    """Budget, and the predictor of the quantity that it limits.

    Args:
        file: File of the predictor.
        merged: True for adapters that exist merged only, so that all take as long as their base.
        recalibration: Base at the time of the search; `None` for predictions of any session.
    """

    budget: Budget
    fitted: FittedPredictor
    file: Path
    merged: bool = False
    recalibration: Recalibration | None = None

    @classmethod
    def of(cls, budget: Budget, file: Path) -> "Cost":
        """Reads a predictor. Raises `InputError` if it does not cover the budget."""
        return cls(budget, covering(budget, load_predictor(file)), file)

    def recalibrated(self, *, cache: Path | None, feedback: Feedback) -> "Cost":
        """With the base measured now. Raises `InputError` and `DeviceError`."""
        fitted, now = recalibrated(self.fitted, self.file, cache=cache, feedback=feedback)
        return replace(self, fitted=fitted, recalibration=now)

    @property
    def predictor(self) -> FittedPredictor | ValueOfBase:
        """Predictor of the configurations."""
        return ValueOfBase(self.fitted.base_value, self.fitted.unit) if self.merged else self.fitted

    @property
    def bound(self) -> float:
        """Largest allowed value."""
        return self.budget.bound(self.predictor.base_value)


@dataclass(frozen=True)
class ShownObjective:
    """Objective that shows how many configurations it has evaluated, and the lowest value.

    Args:
        update: Receives the share that is done, and a text.
        total: Number of configurations that will be evaluated.
        at_once: Configurations that are evaluated between two updates.
    """

    objective: Objective
    update: Update
    total: int
    at_once: int
    values: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the objective."""
        return self.objective.name

    def __call__(self, codes: Points, /) -> NDArray[np.float64]:
        """Values of the objective. Shape (n, n_columns) -> (n,)."""
        quantity, _, unit = self.name.rpartition("_")
        first = len(self.values)
        for start in range(0, len(codes), self.at_once):
            self.values.extend(self.objective(codes[start : start + self.at_once]).tolist())
            done, lowest = len(self.values), f"lowest {quantity} {np.fmin.reduce(self.values):.3f} {unit}"
            self.update(min(1.0, done / self.total), f"{done} of {self.total} evaluated, {lowest}")
        return np.array(self.values[first:])


@dataclass(frozen=True)
class Problem:
    """Lowest loss of a space among the configurations that are predicted to meet all budgets.

    Args:
        objective: Loss to minimise, and expensive to evaluate.
        costs: Budgets, at least one; the second objective is the prediction of the first.
        mode: Application mode of the configurations.
        seed: Seed of algorithms and repairs.
        at_once: Configurations that are evaluated at once.
    """

    space: Space
    objective: Objective
    costs: tuple[Cost, ...]
    mode: Mode
    seed: int
    feedback: Feedback
    at_once: int = 1

    @property
    def predictor(self) -> FittedPredictor | ValueOfBase:
        """Predictor of the first limited quantity."""
        return self.costs[0].predictor

    @property
    def limits(self) -> list[Limit]:
        """Limits on the upper ends of the predictions."""
        dimensions = self.space.dimensions
        return [Limit(PredictedUpperEnd(each.predictor, dimensions), each.bound) for each in self.costs]

    @property
    def limit(self) -> Limit:
        """All limits as one."""
        return joined(self.limits)

    @property
    def base(self) -> float:
        """Value of the base on the scale of the limit."""
        return self.costs[0].bound * max(each.predictor.base_value / each.bound for each in self.costs)

    def run(
        self,
        title: str,
        algorithm: str,
        *,
        evaluations: int,
        start: Points | None = None,
        loss_alone: bool = False,
    ) -> Front:
        """Front of the loss and the predicted quantity that an algorithm finds.

        Args:
            title: Title of the progress display.
            algorithm: Registered name.
            evaluations: Configurations to evaluate.
            start: Points to evaluate first.
            loss_alone: True to minimise the loss alone; default: both.
        """
        proposer = algorithm_named(algorithm)(self.space, seed=self.seed)
        with self.feedback.progress(title) as update:
            objectives = self._objectives(update, evaluations)
            front = search(
                proposer,
                self.space,
                objectives[:1] if loss_alone else objectives,
                [self.limit],
                evaluations=evaluations,
                seed=self.seed,
                start=start,
            )
        return self.front(one.configuration for one in front.history) if loss_alone else front

    def front(self, configurations: Iterable[Configuration], title: str = "") -> Front:
        """Front of configurations; see `candidates`."""
        names = [self.objective.name, PredictedLatency(self.predictor, self.space.dimensions).name]
        return front_of(names, self.candidates(configurations, title))

    def codes(self, configurations: Iterable[Configuration]) -> Points:
        """Codes of configurations. Shape (n_configurations, n_dimensions)."""
        codes = np.array([self.space.encode(each) for each in configurations], dtype=np.int64)
        return codes.reshape(-1, len(self.space.dimensions))

    def cost(self, point: Points) -> float:
        """Value of a point of the space that is limited."""
        return float(self.limit.cost(self.space.at(point)[None])[0])

    def candidates(self, configurations: Iterable[Configuration], title: str = "") -> list[Candidate]:
        """Evaluates the configurations that meet the limit; losses that were computed before are kept.

        Args:
            title: Title of the progress display; empty for none.
        """
        codes = self.codes(configurations)
        codes = codes[feasible(codes, [self.limit])]
        with (self.feedback if title else SILENT).progress(title) as update:
            return candidates_of(codes, self.space, self._objectives(update, len(codes)), [self.limit])

    def _objectives(self, update: Update, total: int) -> list[Objective]:
        loss = ShownObjective(self.objective, update, total, self.at_once)
        return [loss, PredictedLatency(self.predictor, self.space.dimensions)]

    def winners(self, front: Front, n: int) -> list[Configuration]:
        """Configurations with the lowest loss within the limit, and within smaller parts of it; see `pick_winners`."""
        # Below the base, the fastest member takes the place of the base.
        lowest = min([self.base, *(one.upper[0] for one in front.members if self.space.cuts_base)])
        return [one.configuration for one in pick_winners(front, n, base=lowest, bound=self.limit.bound)]

    def choice(
        self, name: str, configuration: Configuration, *, found_by: str = "", mode: Mode | None = None
    ) -> Choice:
        """Row of a configuration, with its prediction under the first budget."""
        row = Choice(name, configuration, mode or self.mode, Interval(0.0, 0.0, 0.0), found_by=found_by)
        return self.predicted(row, self.costs[0])

    def predicted(self, row: Choice, cost: Cost) -> Choice:
        """A row with its prediction under one budget; merged into the whole base, an adapter costs nothing."""
        configuration = row.configuration
        if row.mode in IN_WEIGHTS and not configuration.cuts_base:
            return replace(row, predicted=Interval(*(cost.predictor.base_value,) * 3))
        configuration = configuration if row.mode == self.mode else configuration.without_adapter
        predicted = cost.predictor.predict(self.space.encode(configuration)[None], self.space.dimensions)
        return replace(row, predicted=predicted.interval(0), extrapolates=bool(predicted.extrapolates[0]))

    def result(self, model: str, winners: Sequence[Choice], baselines: Sequence[Choice], **found: Any) -> SearchResult:
        """Choices with their predictions under each budget.

        Args:
            model: Name of the base model.
            found: Other fields of a result, the same under each budget.
        """
        every = [
            SearchResult(
                budget=cost.budget,
                limit=cost.bound,
                base=cost.fitted.base_value,
                level=cost.fitted.level,
                origin=cost.fitted.origin,
                place=place_of(model, cost.fitted),
                winners=tuple(self.predicted(row, cost) for row in winners),
                baselines=tuple(self.predicted(row, cost) for row in baselines),
                predictor=cost.file,
                recalibration=cost.recalibration,
                **found,
            )
            for cost in self.costs
        ]
        # The points of a front have a prediction under the first budget alone.
        return replace(every[0], further=tuple(replace(each, front=()) for each in every[1:]))
