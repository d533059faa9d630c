"""Scores of the choices of a search on examples that guided no choice: the only use of the test examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Configuration
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.accuracy import Accuracy
from adaptare.search.training.paired import paired_difference
from adaptare.search.training.quality import CompletionLoss
from adaptare.search.workflows.accuracies import accuracies_of
from adaptare.search.workflows.adaptation import Adaptation
from adaptare.search.workflows.selection import Choice


@dataclass(frozen=True)
class Chosen:
    """Winner or baseline, chosen and not yet scored.

    Args:
        name: See `Choice`, as are `mode`, `predicted_s` and `extrapolates`.
        super_adapter: Super-adapter that computes as the configuration does once deployed.
        codes: Codes to activate in it. Shape (n_columns,).
    """

    name: str
    config: Configuration
    mode: str
    predicted_s: tuple[float, float, float]
    extrapolates: bool
    super_adapter: SuperAdapter
    codes: NDArray[np.int64]


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
    examples = adaptation.examples
    losses = {id(base): (validation, CompletionLoss(base, examples.test))}
    for each in chosen:
        if id(each.super_adapter) not in losses:
            parts = (examples.validation, examples.test)
            first, second = (CompletionLoss(each.super_adapter, part) for part in parts)
            losses[id(each.super_adapter)] = first, second
    test_sums = {each.name: losses[id(each.super_adapter)][1].sums(each.codes) for each in chosen}
    tokens, best = losses[id(base)][1].tokens, test_sums.get("winner 1")

    def choice(each: Chosen) -> Choice:
        val_loss, test_loss = (float(loss(each.codes[None])[0]) for loss in losses[id(each.super_adapter)])
        difference = None if best is None else paired_difference(test_sums[each.name], best, tokens)
        return Choice(
            each.name,
            each.config,
            each.mode,
            each.predicted_s,
            val_loss,
            test_loss,
            each.extrapolates,
            difference and (difference.middle, difference.lower, difference.upper),
        )

    accuracies = accuracies_of(
        examples.test_questions,
        {each.name: (each.super_adapter, each.codes) for each in chosen},
        base=base,
        majority=examples.majority,
        scoring=adaptation.task.scoring,
    )
    return tuple(map(choice, chosen)), accuracies
