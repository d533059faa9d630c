"""Losses of choices on examples that guided no choice, and further training of a winner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads import SubAdapter
from adaptare.search import CompletionLoss, Origin, SuperAdapter
from adaptare.search.super_adapter import Base
from adaptare.search.training import Answers, Remembered, Scoring, TokenSplit, paired_difference, polished
from adaptare.workflows.search.result import Choice

Deployed = Callable[[Choice], tuple[SuperAdapter, NDArray[np.int64]]]
Right = Mapping[str, NDArray[np.bool_]]


def scored(
    choices: Sequence[Choice],
    examples: TokenSplit,
    *,
    validation: CompletionLoss,
    base: SuperAdapter,
    deployed: Deployed | None = None,
    scoring: Scoring = "sum",
    remembered: Remembered | None = None,
    feedback: Feedback = SILENT,
) -> tuple[tuple[Choice, ...], Right]:
    """Choices with their losses, and right answers by name where there are multiple-choice questions.

    Args:
        choices: Test losses are compared with that of `winner 1`, if it is among them.
        examples: The only use of its test examples.
        validation: Loss of the super-adapter that was searched on the validation examples.
        base: This super-adapter.
        deployed: Super-adapter that computes as a choice does once deployed, and the codes to activate in it; default:
            the one that was searched.
        remembered: Losses and answers that earlier calls computed for the weights of `base`.
    """
    remembered = remembered or Remembered()
    test = CompletionLoss(base, examples.test, remembered=remembered)
    sums: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    right: dict[str, NDArray[np.bool_]] = {}
    with feedback.progress("losses on test examples") as update:
        for number, choice in enumerate(choices):
            update(number / len(choices), choice.name)
            model, codes = deployed(choice) if deployed else (base, base.space.encode(choice.configuration))
            losses, own = [validation, test], remembered
            if model is not base:
                own = remembered.part([choice.mode, base.space.encode(choice.configuration).tolist()])
                losses = [CompletionLoss(model, each, remembered=own) for each in (examples.validation, examples.test)]
            sums[choice.name] = losses[0].sums(codes), losses[1].sums(codes)
            answers = Answers(model, examples.test_questions, scoring=scoring, remembered=own)
            right[choice.name] = answers.right(codes)
            del model, losses, answers  # one further model at a time in memory
        update(1.0, f"{len(choices)} choices")
    best = sums.get("winner 1")

    def with_losses(choice: Choice) -> Choice:
        on_validation, on_test = sums[choice.name]
        return replace(
            choice,
            val_loss=float(on_validation.sum() / validation.tokens.sum()),
            test_loss=float(on_test.sum() / test.tokens.sum()),
            loss_difference=_difference(on_test, best[1], test) if best else None,
        )

    return tuple(map(with_losses, choices)), right


def polish(
    choice: Choice,
    super_adapter: SuperAdapter,
    examples: TokenSplit,
    *,
    origin: Origin,
    steps: int,
    seed: int,
    bf16: bool = False,
    feedback: Feedback,
    checkpoints: Path | None = None,
    max_seconds: float | None = None,
) -> tuple[Choice, SubAdapter[Base]]:
    """A choice after training as the only configuration: its row, and the trained adapter.

    Args:
        origin: Source of the base, for the adapter.
        steps: Optimiser steps on the training examples.
        bf16: Train in bfloat16; losses are computed as those of the super-adapter.
        checkpoints: Folder from which an interrupted training is resumed; `None` for none.
        max_seconds: Duration after which training stops.
    """
    configuration = choice.configuration
    with feedback.progress("loss of the winner") as update:
        update(0.0, "on test examples")
        before = CompletionLoss(super_adapter, examples.test).sums(super_adapter.space.encode(configuration))
    with polished(
        super_adapter,
        configuration,
        examples.train,
        steps=steps,
        seed=seed,
        bf16=bf16,
        feedback=feedback,
        checkpoints=checkpoints,
        max_seconds=max_seconds,
    ) as only:
        with feedback.progress("losses of the polished winner") as update:
            update(0.0, "on validation examples")
            val_loss = float(CompletionLoss(only, examples.validation)(only.largest[None])[0])
            update(len(examples.validation) / (len(examples.validation) + len(examples.test)), "on test examples")
            test = CompletionLoss(only, examples.test)
            sums = test.sums(only.largest)
        row = replace(
            choice,
            name="polished",
            val_loss=val_loss,
            test_loss=float(sums.sum() / test.tokens.sum()),
            loss_difference=_difference(sums, before, test),
            energy_lost=None,
        )
        return row, only.sub_adapter(configuration, origin)


def check_polishable(super_adapter: SuperAdapter) -> None:
    """Raises `InputError` if the winners cannot be trained as adapters of the complete base."""
    if not super_adapter.layer.separable:
        raise InputError("polish trains an adapter apart from its base, and these are merged; leave it out")
    if super_adapter.space.cuts_base:
        raise InputError("polish trains an adapter of the complete base, and this space cuts it; leave it out")


def _difference(sums: NDArray[np.float64], best: NDArray[np.float64], test: CompletionLoss) -> Interval | None:
    """Paired difference; `None` also for the infinite interval of a single example."""
    difference = paired_difference(sums, best, test.tokens)
    return difference if np.isfinite(difference.lower) else None
