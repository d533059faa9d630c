"""Cut of an existing adapter to a budget: its basis is changed, and its ranks are searched, without training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.profiler import Configuration, Quantisation, Space, open_model, read_peft
from adaptare.profiler.models import published_name
from adaptare.search import CompletionLoss, Origin, PredictedLatency, SuperAdapter, export_adapter
from adaptare.search.algorithms import STAGED, by_estimate, smallest_that_fits
from adaptare.search.budget import Budget, Candidate, check_predictor, feasible
from adaptare.search.export import check_replaceable, import_peft
from adaptare.search.super_adapter import energy_lost, ladder_space, load_rounded, on_space, rebase, weight_grams
from adaptare.search.training import FisherChanges, TokenSplit, activation_grams
from adaptare.workflows.search.problem import Cost, Problem
from adaptare.workflows.search.racing import raced, settled
from adaptare.workflows.search.result import SHRUNK, Choice, SearchResult, text_of
from adaptare.workflows.search.scores import polish, scored
from adaptare.workflows.train.task import TrainingData

ENERGY: Final = "energy_lost"
# Maximum number of examples whose activations and gradients determine the importance of ranks.
CALIBRATION: Final = 64


@dataclass(frozen=True)
class ShrinkRequest:
    """Cut of an adapter to a budget.

    Args:
        adapter: PEFT folder of a LoRA or rsLoRA.
        base: Name of its base model.
        predictor: File of a predictor of this base on the device.
        output: Folder of the result for PEFT.
        data: Examples that guide the cut by held-out loss; `None` keeps the most energy of the weights.
        polish: Steps of training after the cut.
        evaluations: Configurations that are raced by held-out loss, at most; the largest uniform rank that fits is one
            more.
        quantisation: Quantisation of the base that losses are computed on.
        recalibrate: True to measure the base first, so that milliseconds are of the present session.
        cache: Folder of converted models; `None` for the user's cache folder.
    """

    adapter: Path
    base: str
    predictor: Path
    budget: Budget
    output: Path
    data: TrainingData | None = None
    polish: int = 0
    evaluations: int = 120
    quantisation: Quantisation = "none"
    recalibrate: bool = False
    seed: int = 0
    cache: Path | None = None


def shrink_adapter(request: ShrinkRequest, *, feedback: Feedback) -> SearchResult:
    """Writes the part of an adapter with the lowest loss that is predicted to meet a budget.

    Returns:
        The part as the only winner; the original is the first baseline.

    Raises:
        InputError: An input cannot be read, or does not fit the others.
        InfeasibleBudgetError: No part of the adapter is predicted to meet the budget.
    """
    if request.polish and request.data is None:
        raise InputError(f"{request.polish} steps of training need examples, and there are none; give data")
    cost = Cost.of(request.budget, request.predictor)
    source = open_model(request.base, cache=request.cache)
    check_predictor(cost.fitted, source.shape, request.quantisation)
    source = source.with_weights()  # of a GGUF file, these are converted now
    template = cost.fitted.template
    if template.in_weights:
        raise InputError(
            f"the predictor is of mode {template.mode}, where every rank takes the same time; profile and fit "
            "the mode static or swappable"
        )
    read_peft(request.adapter, source.shape).on(source.shape)
    check_replaceable(request.output, read=(request.adapter, request.base))
    if request.recalibrate:
        cost = cost.recalibrated(cache=request.cache, feedback=feedback)
    weights = str(source.weights_folder().resolve())
    texts = request.data.texts() if request.data else None  # reports errors before the weights are loaded
    model, tokenizer = load_rounded(weights, request.quantisation)
    examples = request.data.tokens(texts, tokenizer) if request.data and texts else None
    imported = SuperAdapter.of(import_peft(request.adapter, model))
    cutter = Cutter(on_space(imported, ladder_space(imported)), cost, examples, request, feedback)
    winner, (original, *others), evaluated = cutter.search()
    origin, file = Origin(name=published_name(request.base, weights)), request.output / SHRUNK
    if examples and request.polish:
        others = [winner, *others]
        winner, adapted = polish(
            winner,
            cutter.super_adapter,
            examples,
            origin=origin,
            steps=request.polish,
            seed=request.seed,
            feedback=feedback,
        )
    else:
        adapted = cutter.super_adapter.sub_adapter(winner.configuration, origin)
    found = {"evaluations": {STAGED: evaluated}, "folder": request.output, "file": file}
    result = cutter.problem.result(request.base, [winner], [original, *others], **found)
    export_adapter(adapted, request.output, more={file.name: text_of(result, file)})
    return result


@dataclass(frozen=True)
class EnergyLost:
    """Objective: share of the energy of the outputs that a configuration loses, the sum over its sites.

    Args:
        lost: Energy of each site lost at each rank. Shape (n_columns, largest rank + 1).
    """

    lost: NDArray[np.float64] = field(repr=False)
    name: str = "energy lost_share"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,)."""
        total: NDArray[np.float64] = self.lost[np.arange(codes.shape[1]), codes].sum(axis=1)
        return total

    def changes(self, space: Space) -> NDArray[np.float64]:
        """The energy as the change of a loss, see `LossChanges`, in a space whose axes are single sites."""
        table = np.full((space.n_axes, int(space.n_choices.max())), np.nan)
        for number, axis in enumerate(space.axes):
            table[number, : len(axis.choices)] = self.lost[number, list(axis.choices)]
        return table


class Cutter:
    """Search for the ranks of one adapter in its best basis, and simpler cuts, in this basis and as trained.

    Args:
        super_adapter: The adapter as it was trained, on a ladder of ranks; its basis is changed here.
        examples: Training examples for calibration, the others for losses; `None` keeps the most energy of the weights.

    Raises:
        InputError: The adapter changes nothing.
    """

    def __init__(
        self,
        super_adapter: SuperAdapter,
        cost: Cost,
        examples: TokenSplit | None,
        request: ShrinkRequest,
        feedback: Feedback,
    ) -> None:
        self.super_adapter = super_adapter
        self._examples = examples
        self._evaluations = request.evaluations
        self._trained = {name: tensor.clone() for name, tensor in super_adapter.state().items()}
        calibration = examples.train[:CALIBRATION] if examples else ()
        if calibration:
            feedback.note(f"calibrating on {len(calibration)} examples")
        grams = activation_grams(super_adapter, calibration) if calibration else weight_grams(super_adapter)
        self._trained_energy = EnergyLost(energy_lost(super_adapter, grams))
        if not self._trained_energy.lost.any():
            raise InputError("the adapter changes nothing: every B is zero; train it first")
        self._energy = EnergyLost(energy_lost(super_adapter, rebase(super_adapter, grams)))
        self._calibration = calibration
        self._loss = CompletionLoss(super_adapter, examples.validation) if examples else None
        objective = self._loss or self._energy
        space, mode = super_adapter.space, cost.fitted.template.mode
        self.problem = Problem(space, objective, (cost,), mode, request.seed, feedback)

    def search(self) -> tuple[Choice, list[Choice], int]:
        """The best cut; the original and simpler cuts no slower than it; and the number of evaluated configurations."""
        problem = self.problem
        smallest_that_fits(problem.space, [problem.limit])  # raises if the budget is infeasible
        largest = self.super_adapter.largest
        uniform = np.array([np.minimum(rank, largest) for rank in range(1, int(largest.max()) + 1)])
        # The largest uniform rank within the limit need not be a point of the space, and may win too.
        fits = feasible(uniform, [problem.limit])
        even = problem.candidates(map(problem.space.decode, uniform[fits][-1:]), "largest uniform rank")
        best, evaluated = self._best(even)
        winner = problem.choice("shrunk", best)
        latency = PredictedLatency(problem.predictor, problem.space.dimensions)
        rank = 1 + max(np.flatnonzero(fits & (latency(uniform) <= winner.predicted.middle)).tolist(), default=-1)
        simple = list[Choice]()
        plain = [problem.choice("original", problem.space.decode(largest))]
        plain.append(replace(winner, name="first rows, same ranks"))
        if rank:
            same = problem.space.decode(uniform[rank - 1])
            simple.append(problem.choice(f"uniform {rank}", same))
            plain.append(problem.choice(f"first {rank} rows", same))
        winner, *simple = self._scored([winner, *simple], self._energy, self._loss)
        with _weights(self.super_adapter, self._trained):
            as_trained = CompletionLoss(self.super_adapter, self._examples.validation) if self._examples else None
            original, *plain = self._scored(plain, self._trained_energy, as_trained)
        return winner, [original, *simple, *plain], evaluated

    def _best(self, even: Sequence[Candidate]) -> tuple[Configuration, int]:
        """The best configuration within the limit, among some others too, and the number of evaluated ones."""
        problem, space, limit = self.problem, self.problem.space, self.problem.limit
        table = self._energy.changes(space)
        if self._loss is None:
            point = by_estimate(space, table, limit)
            point = smallest_that_fits(space, [limit]) if point is None else point
            tried = [*problem.candidates([space.decode(space.at(point))]), *even]
            return min(tried, key=lambda one: one.values[0]).configuration, len(tried)
        changes = FisherChanges(self.super_adapter, space, self._calibration)
        evaluations, others = self._evaluations, {ENERGY: table}
        found = raced(problem, self._loss, changes, evaluations=evaluations, winners=1, others=others)
        (best,) = settled(problem, self._loss, found.incumbents, (*found.candidates, *even))
        return best, found.evaluations + len(even)

    def _scored(self, choices: list[Choice], energy: EnergyLost, validation: CompletionLoss | None) -> list[Choice]:
        """Choices with the energy they lose and, with examples, their losses, in the present basis."""
        codes = np.array([self.problem.space.encode(each.configuration) for each in choices])
        choices = [replace(each, energy_lost=float(lost)) for each, lost in zip(choices, energy(codes), strict=True)]
        if not self._examples or not validation:
            return choices
        feedback = self.problem.feedback
        rows, _ = scored(choices, self._examples, validation=validation, base=self.super_adapter, feedback=feedback)
        return list(rows)


@contextmanager
def _weights(super_adapter: SuperAdapter, weights: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Replaces the weights of the super-adapter within the context."""
    state = super_adapter.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    try:
        for name, tensor in state.items():
            tensor.copy_(weights[name])
        yield
    finally:
        for name, tensor in state.items():
            tensor.copy_(before[name])
