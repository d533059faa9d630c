"""Scores of the choices of a search on examples that guided no choice: the only use of the test examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Configuration, Mode
from adaptare.profiler.analysis.intervals import Interval
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised_base import requantised
from adaptare.search.training.accuracy import Accuracy
from adaptare.search.training.paired import paired_difference
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.workflows.accuracies import accuracies_of, right_answers
from adaptare.search.workflows.adaptation import Adaptation
from adaptare.search.workflows.selection import Choice


@dataclass(frozen=True)
class Chosen:
    """Winner or baseline, chosen and not yet scored; see `Choice`."""

    name: str
    config: Configuration
    mode: Mode
    predicted_s: tuple[float, float, float]
    extrapolates: bool


def scored(
    chosen: Sequence[Chosen], adaptation: Adaptation, *, base: SuperAdapter, validation: CompletionLoss
) -> tuple[tuple[Choice, ...], tuple[Accuracy, ...]]:
    """Choices with their losses, and accuracies where there are multiple-choice questions.

    Args:
        chosen: Configurations; test losses are compared with that of `winner 1`, if it is among them.
        adaptation: Examples.
        base: The super-adapter that was searched.
        validation: Its loss on the validation examples.
    """
    examples, scoring = adaptation.examples, adaptation.task.scoring
    test = CompletionLoss(base, examples.test)
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    right: dict[str, NDArray[np.bool_]] = {}
    for candidate in chosen:
        model, codes = _deployed(candidate, adaptation, base)
        losses = (validation, test) if model is base else _losses(model, adaptation)
        sums[candidate.name] = losses[0].sums(codes), losses[1].sums(codes)
        right[candidate.name] = right_answers(examples.test_questions, model, codes, scoring=scoring)
        del model, losses  # one further model at a time in memory
    tokens, best = test.tokens, sums.get("winner 1")

    def choice(candidate: Chosen) -> Choice:
        on_validation, on_test = sums[candidate.name]
        difference = None if best is None else paired_difference(on_test, best[1], tokens)
        return Choice(
            candidate.name,
            candidate.config,
            candidate.mode,
            candidate.predicted_s,
            float(on_validation.sum() / validation.tokens.sum()),
            float(on_test.sum() / tokens.sum()),
            candidate.extrapolates,
            _ends(difference),
        )

    accuracies = accuracies_of(examples.test_questions, right, base=base, majority=examples.majority, scoring=scoring)
    return tuple(map(choice, chosen)), accuracies


def _ends(difference: Interval | None) -> tuple[float, float, float] | None:
    """Middle and ends; `None` also for the infinite interval of a single example."""
    if difference is None or not np.isfinite(difference.lower):
        return None
    return difference.middle, difference.lower, difference.upper


def _deployed(candidate: Chosen, adaptation: Adaptation, base: SuperAdapter) -> tuple[SuperAdapter, NDArray[np.int64]]:
    """Super-adapter that computes as the configuration does once deployed, and the codes to activate in it."""
    if candidate.mode != "requantised" or base.on_grid:
        return base, base.space.encode(candidate.config)
    again = requantised(base, candidate.config, adaptation.base, adaptation.task.quantisation)
    return again, base.space.encode(candidate.config.without_adapter)


def _losses(super_adapter: SuperAdapter, adaptation: Adaptation) -> tuple[CompletionLoss, CompletionLoss]:
    examples = adaptation.examples
    return CompletionLoss(super_adapter, examples.validation), CompletionLoss(super_adapter, examples.test)
