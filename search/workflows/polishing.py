"""The first winner of a search, trained some steps more."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from adaptare.profiler.results.report import Feedback
from adaptare.search import CompletionLoss, SuperAdapter, export_peft
from adaptare.search.training.polish import polished
from adaptare.search.workflows.adaptation import Adaptation
from adaptare.search.workflows.selection import Choice

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
    with feedback.progress("polishing") as update:

        def show(done: int, of: int, loss: float) -> None:
            update(done / of, f"step {done} of {of}, loss {loss:.2f}")

        with polished(super_adapter, winner.config, examples.train, steps=steps, seed=seed, progress=show) as only:
            parts = (examples.validation, examples.test)
            losses = [float(CompletionLoss(only, part)(only.largest[None])[0]) for part in parts]
            export_peft(only, winner.config, folder, base_name=adaptation.base_name)
    return replace(winner, name=POLISHED, val_loss=losses[0], test_loss=losses[1])
