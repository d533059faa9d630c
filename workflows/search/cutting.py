"""Search for the part of an adapter that meets a latency budget, and simpler cuts beside it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Space
from adaptare.search import (
    AdditiveScreen,
    CompletionLoss,
    Limit,
    Nsga2,
    Objective,
    PredictedLatency,
    PredictedUpperEnd,
    SuperAdapter,
    pick_winners,
    search,
)
from adaptare.search.algorithms.allocation import SumOfSites, allocations
from adaptare.search.budget.candidate import Candidate
from adaptare.search.super_adapter.rebasis import energy_lost, rebase, weight_grams
from adaptare.search.training.rank_importance import activation_grams, loss_lost
from adaptare.search.training.token_examples import TokenSplit
from adaptare.workflows.search.shrink_report import Cut

# Maximum number of examples whose activations and gradients determine the importance of ranks.
CALIBRATION: Final = 64
# Allocations that the search begins with, for each kind of importance.
SEEDS: Final = 8


class Cutter:
    """Cuts of one adapter in its new basis and in that of its training, with latencies, energies and losses.

    Args:
        super_adapter: The adapter as it was trained, on a ladder of ranks; its basis is changed here.
        predictor: Predictor of its base on the device.
        examples: Examples that guide the cut: training examples for calibration, the others for losses; `None` keeps
            the most energy of the weights.
        limit_s: Largest allowed latency, seconds.
        seed: Seed of the search.
        feedback: Receives the progress.

    Raises:
        InputError: The adapter changes nothing.
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
        self._limit_s = limit_s
        self._seed = seed
        self._feedback = feedback
        self._trained = {name: tensor.clone() for name, tensor in super_adapter.state().items()}
        calibration = examples.train[:CALIBRATION] if examples else ()
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

    def search(self, evaluations: int) -> tuple[Configuration, int]:
        """Configuration with the lowest objective within the limit, and the number of configurations evaluated."""
        space, predictor, done = self._space, self._predictor, count(1)
        limit = Limit(PredictedUpperEnd(predictor, space.columns), self._limit_s)
        starts = [allocations(space, importance, limit, most=SEEDS) for importance in self._importances]
        # The best allocation of each kind of importance first, then the second best of each, and so on.
        order = np.argsort(np.concatenate([np.arange(len(genes)) for genes in starts]), kind="stable")
        objective: Objective = self._losses[0] if self._losses else self._energy
        with self._feedback.progress("searching") as update:

            def show(candidate: Candidate) -> None:
                number = next(done)
                update(number / evaluations, f"{number} of {evaluations} evaluated")

            front = search(
                Nsga2(space, seed=self._seed, start=np.vstack(starts)[order]),
                space,
                [objective, PredictedLatency(predictor, space.columns)],
                [limit],
                evaluations=evaluations,
                seed=self._seed,
                screen=AdditiveScreen(),
                progress=show,
            )
        winners = pick_winners(front, 1, base=predictor.base_value, bound=self._limit_s)
        if not winners:
            raise InputError(
                "every loss of this adapter is NaN or infinite; check that it was trained on this base model"
            )
        return space.decode(winners[0].codes), len(front.history)

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
        val_loss, test_loss = [float(loss(codes[None])[0]) for loss in losses] or (None, None)
        lost, beyond = float(energy(codes[None])[0]), bool(predicted.extrapolates[0])
        return Cut(name, self._space.decode(codes), predicted.interval_s(0), lost, val_loss, test_loss, beyond)


def _losses(super_adapter: SuperAdapter, examples: TokenSplit | None) -> tuple[CompletionLoss, ...]:
    """Losses on the validation and on the test examples, if there are any."""
    parts = (examples.validation, examples.test) if examples else ()
    return tuple(CompletionLoss(super_adapter, part) for part in parts)


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
