"""The first winner of a search, trained some steps more."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from adaptare.core import InputError
from adaptare.core.progress import Feedback
from adaptare.search import CompletionLoss, SuperAdapter, export_peft
from adaptare.search.training.polish import polished
from adaptare.search.training.quality import paired_difference
from adaptare.workflows.search.selection import Choice
from adaptare.workflows.train.adaptation import Adaptation

POLISHED: Final = "winner polished"


def polish_winner(
    adaptation: Adaptation,
    super_adapter: SuperAdapter,
    winner: Choice,
    folder: Path,
    *,
    steps: int,
    seed: int,
    feedback: Feedback,
) -> Choice:
    """Trains a winner as the only configuration, writes it as a PEFT folder, and returns its row.

    Args:
        folder: Absent, empty, or an earlier export, which is replaced.
        steps: Optimiser steps on the training examples.
    """
    examples = adaptation.examples
    with polished(super_adapter, winner.config, examples.train, steps=steps, seed=seed, feedback=feedback) as only:
        validation, test = CompletionLoss(only, examples.validation), CompletionLoss(only, examples.test)
        val_loss, test_loss = (float(loss(only.largest[None])[0]) for loss in (validation, test))
        sums = test.sums(only.largest)
        export_peft(only, winner.config, folder, base_name=adaptation.base_name)
    before = CompletionLoss(super_adapter, examples.test).sums(super_adapter.space.encode(winner.config))
    change = paired_difference(sums, before, test.tokens)
    difference = (change.middle, change.lower, change.upper)
    return replace(winner, name=POLISHED, val_loss=val_loss, test_loss=test_loss, loss_difference=difference)


def check_polishable(super_adapter: SuperAdapter) -> None:
    """Raises `InputError` if the winners cannot be trained as adapters of the complete base."""
    if not super_adapter.separable:
        raise InputError("--polish trains an adapter apart from its base, and these are merged; leave it out")
    if super_adapter.space.cuts_base:
        raise InputError("--polish trains an adapter of the complete base, and this space cuts it; leave it out")
