"""Scores of the choices of a search on examples that guided no choice: the only use of the test examples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler.analysis.intervals import Interval
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised_base import requantised
from adaptare.search.training.accuracy import Accuracy
from adaptare.search.training.quality import CompletionLoss, paired_difference
from adaptare.workflows.search.selection import Choice
from adaptare.workflows.train.accuracies import accuracies_of, right_answers
from adaptare.workflows.train.adaptation import Adaptation


def scored(
    chosen: Sequence[Choice], adaptation: Adaptation, *, base: SuperAdapter, validation: CompletionLoss
) -> tuple[tuple[Choice, ...], tuple[Accuracy, ...]]:
    """Choices with their losses, and accuracies where there are multiple-choice questions.

    Args:
        chosen: Configurations; test losses are compared with that of `winner 1`, if it is among them.
        adaptation: Examples.
        base: The super-adapter that was searched.
        validation: Its loss on the validation examples.
    """
    examples, scoring = adaptation.examples, adaptation.task.scoring
    parts = examples.validation, examples.test
    test = CompletionLoss(base, examples.test)
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    right: dict[str, NDArray[np.bool_]] = {}
    for candidate in chosen:
        model, codes = _deployed(candidate, adaptation, base)
        losses = (validation, test) if model is base else tuple(CompletionLoss(model, part) for part in parts)
        sums[candidate.name] = losses[0].sums(codes), losses[1].sums(codes)
        right[candidate.name] = right_answers(examples.test_questions, model, codes, scoring=scoring)
        del model, losses  # one further model at a time in memory
    tokens, best = test.tokens, sums.get("winner 1")

    def choice(candidate: Choice) -> Choice:
        on_validation, on_test = sums[candidate.name]
        difference = None if best is None else paired_difference(on_test, best[1], tokens)
        return replace(
            candidate,
            val_loss=float(on_validation.sum() / validation.tokens.sum()),
            test_loss=float(on_test.sum() / tokens.sum()),
            loss_difference=_ends(difference),
        )

    accuracies = accuracies_of(examples.test_questions, right, base=base, majority=examples.majority, scoring=scoring)
    return tuple(map(choice, chosen)), accuracies


def _ends(difference: Interval | None) -> tuple[float, float, float] | None:
    """Middle and ends; `None` also for the infinite interval of a single example."""
    if difference is None or not np.isfinite(difference.lower):
        return None
    return difference.middle, difference.lower, difference.upper


def _deployed(candidate: Choice, adaptation: Adaptation, base: SuperAdapter) -> tuple[SuperAdapter, NDArray[np.int64]]:
    """Super-adapter that computes as the configuration does once deployed, and the codes to activate in it."""
    if candidate.mode != "requantised" or base.on_grid:
        return base, base.space.encode(candidate.config)
    again = requantised(base, candidate.config, adaptation.base, adaptation.task.quantisation)
    return again, base.space.encode(candidate.config.without_adapter)
