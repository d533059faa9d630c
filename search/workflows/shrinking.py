"""Cut of an adapter that exists to a latency budget: its basis is changed, and ranks are searched, without training."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.devices.versioned_json import write_versioned
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Configuration, Quantisation, Space, open_model, read_peft
from adaptare.profiler.models.model_source import published_name
from adaptare.profiler.results.report import Feedback
from adaptare.profiler.workloads.space import rank_space
from adaptare.search import (
    AdditiveScreen,
    CompletionLoss,
    Limit,
    Nsga2,
    PredictedLatency,
    PredictedUpperEnd,
    SuperAdapter,
    export_peft,
    load_base,
    pick_winners,
    search,
    train_super_adapter,
)
from adaptare.search.algorithms.allocation import SumOfSites, allocations
from adaptare.search.budget.candidate import Candidate
from adaptare.search.budget.limits import Budget
from adaptare.search.budget.objective import Objective
from adaptare.search.export.folder import check_replaceable
from adaptare.search.export.peft_import import import_peft
from adaptare.search.super_adapter.quantised_base import round_base
from adaptare.search.super_adapter.rebasis import energy_lost, ladder_space, on_space, rebase, weight_grams
from adaptare.search.training.calibration import activation_grams, loss_lost
from adaptare.search.training.step_sampler import UniformSampler
from adaptare.search.training.token_examples import TokenExample, TokenSplit
from adaptare.search.workflows.latency_limit import limit_of
from adaptare.search.workflows.searching import check_feasible
from adaptare.search.workflows.shrink_report import Cut, ShrinkReport
from adaptare.search.workflows.task import Task, examples_of, texts_of

SCHEMA: Final = 1
# Examples whose activations and gradients say how important a rank is, at most.
CALIBRATION: Final = 64
# Allocations that the search begins with, by each kind of importance.
SEEDS: Final = 8
POLISH_RATE: Final = 1e-3


@dataclass(frozen=True)
class Data:
    """Examples that guide the cut.

    Args:
        file: Training data, see `read_examples`.
        max_tokens: Longer examples are cut.
        held_out: Number of examples to validate, and to test, at most.
    """

    file: Path
    max_tokens: int = 64
    held_out: int = 48


def shrink_adapter(
    adapter: Path,
    base: str,
    *,
    predictor: Path,
    budget: Budget,
    output: Path,
    data: Data | None,
    polish: int,
    evaluations: int,
    quantisation: Quantisation,
    seed: int,
    cache: Path | None,
    feedback: Feedback,
) -> ShrinkReport:
    """Writes the part of an adapter with the lowest loss that is predicted to meet a budget.

    Args:
        adapter: PEFT folder of a LoRA or rsLoRA.
        base: Name of its base model.
        predictor: Predictor of this base on the device.
        data: Guides the cut by held-out loss; `None` keeps the most energy of the weights.
        polish: Steps of training after the cut.
        evaluations: Configurations to evaluate.
        quantisation: Quantisation of the base that losses are computed on.

    Raises:
        InputError: An input cannot be read, or does not fit the others.
        InfeasibleBudgetError: No part of the adapter is predicted to meet the budget.
    """
    if polish and data is None:
        raise InputError(f"--polish {polish} trains, and there are no examples; give them with --data FILE")
    fitted = load_predictor(predictor)
    limit_of(budget, fitted)
    source = open_model(base, cache=cache).with_weights()
    _check_predictor(fitted, source.shape.describe(), source.shape.sizes, quantisation)
    read_peft(adapter, source.shape).on(source.shape)
    check_replaceable(output)
    weights = str(source.weights_folder().resolve())
    model, tokenizer = load_base(weights)
    round_base(model, quantisation)
    examples = None
    if data is not None:
        file, max_tokens, held_out = str(data.file.resolve()), data.max_tokens, data.held_out
        task = Task(weights, base, file, seed, max_tokens, held_out, quantisation)
        examples = examples_of(task, texts_of(task), tokenizer)
    imported, _ = import_peft(adapter, model)
    super_adapter = on_space(imported, ladder_space(imported))
    check_feasible(budget, fitted, super_adapter.space)
    shrinker = _Shrinker(super_adapter, fitted, examples, limit_of(budget, fitted), seed, feedback)
    winner, evaluated = shrinker.found(evaluations)
    cuts = shrinker.cuts(winner)
    if polish:
        super_adapter = _polished(super_adapter, winner, shrinker.training, steps=polish, seed=seed, feedback=feedback)
        cuts.insert(1, shrinker.polished(super_adapter, winner))
    export_peft(super_adapter, winner, output, base_name=published_name(base, weights))
    report = ShrinkReport(
        output,
        str(budget),
        shrinker.limit_s,
        fitted.reference_s,
        fitted.level,
        fitted.origin,
        tuple(cuts),
        evaluated,
        polish,
    )
    write_versioned(output / "shrink.json", report.to_json(), schema=SCHEMA)
    return report


class _Shrinker:
    """An adapter in its new basis, and the one it was, with their losses.

    Args:
        super_adapter: The adapter as it was trained, on a ladder of ranks; its basis is changed here.
        limit_s: Largest allowed latency, seconds.
    """

    def __init__(
        self,
        super_adapter: SuperAdapter,
        predictor: FittedPredictor,
        examples: TokenSplit | None,
        limit_s: float,
        seed: int,
        feedback: Feedback,
    ) -> None:
        self._super_adapter = super_adapter
        self._predictor = predictor
        self._examples = examples
        self.limit_s = limit_s
        self._seed = seed
        self._feedback = feedback
        self.training: Sequence[TokenExample] = examples.train if examples else ()
        self._trained = {name: tensor.clone() for name, tensor in super_adapter.state().items()}
        calibration = self.training[:CALIBRATION]
        if calibration:
            feedback.note(f"calibrating on {len(calibration)} examples")
        grams = activation_grams(super_adapter, calibration) if calibration else weight_grams(super_adapter)
        self._trained_energy = SumOfSites(energy_lost(super_adapter, grams), "energy_lost")
        if not self._trained_energy.lost.any():
            raise InputError("the adapter changes nothing: every B is zero; train it first")
        self._energy = SumOfSites(energy_lost(super_adapter, rebase(super_adapter, grams)), "energy_lost")
        self._importances = [self._energy]
        if calibration:
            self._importances.append(SumOfSites(loss_lost(super_adapter, calibration), "loss_nats"))
        self._losses = _losses(super_adapter, examples)

    @property
    def _space(self) -> Space:
        return self._super_adapter.space

    def found(self, evaluations: int) -> tuple[Configuration, int]:
        """Configuration with the lowest objective within the limit, and the number of configurations evaluated."""
        space, predictor, done = self._space, self._predictor, count(1)
        limit = Limit(PredictedUpperEnd(predictor, space.columns), self.limit_s)
        start = np.vstack([allocations(space, each, limit, most=SEEDS) for each in self._importances])
        objective: Objective = self._losses[0] if self._losses else self._energy
        with self._feedback.progress("searching") as update:

            def show(candidate: Candidate) -> None:
                number = next(done)
                update(number / evaluations, f"{number} of {evaluations} evaluated")

            front = search(
                Nsga2(space, seed=self._seed, start=start),
                space,
                [objective, PredictedLatency(predictor, space.columns)],
                [limit],
                evaluations=evaluations,
                seed=self._seed,
                screen=AdditiveScreen(),
                progress=show,
            )
        (winner,) = pick_winners(front, 1, base=predictor.reference_s, bound=self.limit_s)
        return space.decode(winner.codes), len(front.history)

    def cuts(self, winner: Configuration) -> list[Cut]:
        """The original, the winner, and simpler cuts that are predicted to be no slower than it."""
        largest, codes = self._super_adapter.largest, self._space.encode(winner)
        latency = PredictedLatency(self._predictor, self._space.columns)
        uniform = np.array([np.minimum(rank, largest) for rank in range(1, int(largest.max()) + 1)])
        fits = np.flatnonzero(latency(uniform) <= latency(codes[None])[0])
        rank = int(fits[-1]) + 1 if len(fits) else None
        cuts = [self._cut("shrunk", codes, self._energy, self._losses)]
        if rank:
            cuts.append(self._cut(f"uniform {rank}", uniform[rank - 1], self._energy, self._losses))
        with _weights(self._super_adapter, self._trained):
            losses, energy = _losses(self._super_adapter, self._examples), self._trained_energy
            original = self._cut("original", largest, energy, losses)
            cuts.append(self._cut("first rows, same ranks", codes, energy, losses))
            if rank:
                cuts.append(self._cut(f"first {rank} rows", uniform[rank - 1], energy, losses))
        return [original, *cuts]

    def polished(self, super_adapter: SuperAdapter, winner: Configuration) -> Cut:
        """The winner after training."""
        codes, losses = super_adapter.codes(winner), _losses(super_adapter, self._examples)
        test = [float(loss(codes[None])[0]) for loss in losses]
        plain = self._cut("polished", self._space.encode(winner), self._energy, ())
        return replace(plain, energy_lost=None, val_loss=test[0], test_loss=test[1])

    def _cut(self, name: str, codes: NDArray[np.int64], energy: SumOfSites, losses: Sequence[CompletionLoss]) -> Cut:
        predicted = self._predictor.predict(codes[None], self._space.columns)
        ends = (float(predicted.mean_s[0]), float(predicted.lower_s[0]), float(predicted.upper_s[0]))
        val_loss, test_loss = [float(loss(codes[None])[0]) for loss in losses] or (None, None)
        lost, beyond = float(energy(codes[None])[0]), bool(predicted.extrapolates[0])
        return Cut(name, self._space.decode(codes), ends, lost, val_loss, test_loss, beyond)


def _losses(super_adapter: SuperAdapter, examples: TokenSplit | None) -> tuple[CompletionLoss, ...]:
    """Losses on the validation and on the test examples, if there are any."""
    parts = (examples.validation, examples.test) if examples else ()
    return tuple(CompletionLoss(super_adapter, part) for part in parts)


@contextmanager
def _weights(super_adapter: SuperAdapter, weights: dict[str, torch.Tensor]) -> Iterator[None]:
    """Other weights within the context."""
    state = super_adapter.state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    try:
        for name, tensor in state.items():
            tensor.copy_(weights[name])
        yield
    finally:
        for name, tensor in state.items():
            tensor.copy_(before[name])


def _polished(
    super_adapter: SuperAdapter,
    winner: Configuration,
    examples: Sequence[TokenExample],
    *,
    steps: int,
    seed: int,
    feedback: Feedback,
) -> SuperAdapter:
    """The winner alone, trained further."""
    sites = [site for site in super_adapter.space.sites if site.path in winner.by_path]
    ranks = [[winner.by_path[site.path]] for site in sites]
    only = on_space(super_adapter, rank_space("shrunk", sites, [[column] for column in range(len(sites))], ranks))
    with feedback.progress("polishing") as update, tempfile.TemporaryDirectory() as place:
        show: Callable[[int, int, float], None] = lambda done, of, loss: update(done / of, f"loss {loss:.2f}")  # noqa: E731
        train_super_adapter(
            only,
            examples,
            folder=place,
            steps=steps,
            learning_rate=POLISH_RATE,
            seed=seed,
            sampler=UniformSampler(),
            progress=show,
        )
    return only


def _check_predictor(predictor: FittedPredictor, base: str, sizes: object, quantisation: Quantisation) -> None:
    profiled, rounded = predictor.template.shape, predictor.template.quantisation
    if sizes != profiled.sizes:
        raise InputError(
            f"the base model is a {base}, and the predictor is of a {profiled.describe()}; profile and fit this model"
        )
    if rounded != quantisation:
        raise InputError(
            f"the predictor is of a base with quantisation {rounded}, and this one has {quantisation}; give "
            f"--quantise {rounded}, or profile and fit the other base"
        )
