"""Training of one super-adapter for a base model."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.folder_lock import locked
from adaptare.core.progress import SILENT, Feedback
from adaptare.predictor import load_predictor
from adaptare.profiler import ModelShape, Quantisation, Space, open_model
from adaptare.profiler.models import ModelSource, dequantised_file
from adaptare.search import CompletionLoss, SuperAdapter, TrainingSettings, train_super_adapter
from adaptare.search.algorithms import smallest_that_fits
from adaptare.search.budget import Budget, check_predictor, predicted_limit
from adaptare.search.recipes import DEFAULT_RECIPE, BudgetSampler, Recipe, TrainingStep, check_widths, recipe_named
from adaptare.search.super_adapter import load_tokenizer
from adaptare.search.training import Answers, Remembered, check_trackers, constant_losses, paired_difference
from adaptare.workflows.spaces import is_space_file, space_of
from adaptare.workflows.train.adaptation import load_adaptation, prepare_base, with_layer_order
from adaptare.workflows.train.result import TrainResult
from adaptare.workflows.train.task import Task, TrainingData, check_unclaimed, save_task

# Parts of a training after which the validation loss is computed.
LOOKS: Final = 3


@dataclass(frozen=True)
class TrainRequest:
    """Training of a super-adapter: its base, examples, space and settings.

    Args:
        model: Name of the base model, see `open_model`.
        folder: Folder of the super-adapter; a training that was begun there is resumed.
        data: Examples.
        settings: Number and size of the optimiser steps.
        recipe: Name of a registered recipe.
        space: Name of a space, or a YAML file; `None` for that of the recipe.
        ranks: Ranks of a site; `None` for those of the recipe, or of the YAML file.
        quantisation: Quantisation of the base that adapters are trained on; `None` for that of the recipe.
        predictor: Predictor of the base on a device, for `budget`.
        budget: Configurations are drawn near this budget; `None` for the draws of the recipe.
        sparsity: Share of each row of the base that the recipe sets to zero; `None` for its own.
        max_seconds: Duration after which training stops with a checkpoint.
        cache: Folder for converted models; `None` for the user's cache folder.
    """

    model: str
    folder: Path
    data: TrainingData
    settings: TrainingSettings
    recipe: str = DEFAULT_RECIPE
    space: str | None = None
    ranks: Sequence[int] | None = None
    quantisation: Quantisation | None = None
    predictor: Path | None = None
    budget: Budget | None = None
    sparsity: float | None = None
    max_seconds: float | None = None
    cache: Path | None = None

    def task(self, source: ModelSource) -> Task:
        """Task of the folder on a resolved base model."""
        weights, chosen = recipe_named(self.recipe).quantisation(self.quantisation), source.weights_folder().resolve()
        return Task(chosen, self.model, self.data.resolved(), weights, self.recipe, self.sparsity)


def check_request(request: TrainRequest) -> None:
    """Loads no weights.

    Raises:
        InputError: The examples cannot be read, none fits into `max_tokens`, or the folder is of another task.
    """
    texts = request.data.texts()
    recipe_named(request.recipe).at_sparsity(request.sparsity)
    task = request.task(open_model(request.model, cache=request.cache))
    check_unclaimed(task, request.folder)
    request.data.tokens(texts, load_tokenizer(task.model))


def train(request: TrainRequest, *, feedback: Feedback = SILENT) -> TrainResult:
    """Trains, or resumes training, the super-adapter of a folder.

    The base that a recipe prepares is made once, and saved there.

    Raises:
        InputError: An input cannot be read or does not fit the others, or the folder is of another training, or in use.
        InfeasibleBudgetError: No adapter of the space is predicted to meet the budget.
    """
    with locked(request.folder):
        return _train(request, feedback)


def _train(request: TrainRequest, feedback: Feedback) -> TrainResult:
    check_trackers(request.settings.report_to)
    folder, recipe = request.folder, recipe_named(request.recipe).at_sparsity(request.sparsity)
    source = open_model(request.model, cache=request.cache)
    space = _space(request, recipe, source.shape)
    check_widths(recipe, space)
    _step(request, recipe, space, source.shape)  # raises before the base is prepared
    task = request.task(source)
    check_unclaimed(task, folder)
    prepare_base(task, recipe, folder)
    adaptation = load_adaptation(task, folder)
    if file := dequantised_file(task.model):
        feedback.note(
            f"weights of {file} are rounded and were dequantised; losses are of them, not of unrounded weights"
        )
    examples, space = adaptation.examples, with_layer_order(space, adaptation.base)
    step = _step(request, recipe, space, source.shape)
    if examples.dropped or examples.cut:
        feedback.note(
            f"{examples.dropped} examples are left out because their prompt alone has {task.data.max_tokens} tokens or "
            f"more, and of {examples.cut} the completion is cut; a larger max_tokens takes longer ones"
        )
    started = time.monotonic()
    alpha, layer = recipe.alpha, recipe.layer
    super_adapter = SuperAdapter(adaptation.model, space, alpha=alpha, seed=request.settings.seed, layer=layer)
    claimed, seen = False, Remembered(folder / "looks.jsonl")
    looks = {request.settings.steps * part // LOOKS for part in range(1, LOOKS)} - {0}
    with feedback.progress("training") as update:

        def show(done: int, of: int, loss: float) -> None:
            nonlocal claimed
            if not claimed:  # from the first step on, so that no run resumes it on another base
                save_task(task, folder)
                claimed = True
            update(done / of, f"step {done} of {of}, loss {loss:.2f}")
            if done in looks:
                super_adapter.bf16 = request.settings.bf16
                seen.keep(done, CompletionLoss(super_adapter, examples.validation).sums(super_adapter.largest))
                super_adapter.bf16 = False

        losses = train_super_adapter(
            super_adapter,
            examples.train,
            request.settings,
            folder=folder,
            step=step,
            max_seconds=request.max_seconds,
            progress=show,
        )
    save_task(task, folder)
    validation = CompletionLoss(super_adapter, examples.validation)
    judged = np.stack([space.base, space.at(recipe.start(space)), super_adapter.largest])
    with feedback.progress("losses on validation examples") as update:
        validation.each(judged, done=lambda share: update(share, "without adapter, at the start, and the largest"))
    found = {step: sums for step in sorted(looks) if step <= len(losses) and (sums := seen.find(step)) is not None}
    _warn_of_overfitting(found, validation.sums(super_adapter.largest), validation.tokens, feedback)
    constant = constant_losses(examples.train, examples.validation, vocabulary=source.shape.vocabulary)
    others = {"without adapter": validation.sums(space.base), "of frequencies of tokens without any prompt": constant}
    _warn_of_no_signal(validation.sums(super_adapter.largest), others, validation.tokens, feedback)
    if space.cuts_base:
        _warn_of_a_worse_cut(validation.sums(judged[1]), validation.sums(space.base), validation.tokens, feedback)
    base_loss, start_loss, full_loss = map(float, validation(judged))
    answers = Answers(super_adapter, examples.validation_questions, scoring=task.data.scoring)
    right = {"trained": answers.right(super_adapter.largest)}
    return TrainResult(
        model=request.model,
        folder=folder,
        recipe=recipe.name,
        quantisation=task.quantisation,
        steps=len(losses),
        seconds=time.monotonic() - started,
        base_loss=base_loss,
        start_loss=start_loss,
        full_loss=full_loss,
        loss_difference=validation.difference(super_adapter.largest, space.base),
        accuracies=answers.accuracies(right, majority=examples.majority),
        examples=len(examples.train),
        dropped=examples.dropped,
        cut=examples.cut,
        cuts_base=space.cuts_base,
        constant_loss=float(constant.sum() / validation.tokens.sum()),
    )


def _warn_of_no_signal(
    trained: NDArray[np.float64],
    others: Mapping[str, NDArray[np.float64]],
    tokens: NDArray[np.int64],
    feedback: Feedback,
) -> None:
    """Notes if the largest of every choice is not better than what needs no training, by the paired interval.

    Args:
        trained: Loss of each validation example. Shape (n_examples,).
        others: The same of what needs no training, by words for it.
        tokens: Number of completion tokens of each. Shape (n_examples,).
    """
    words = min(others, key=lambda each: float(others[each].sum()))
    change = paired_difference(trained, others[words], tokens)
    if change.upper >= 0:
        feedback.note(
            f"no signal: the validation loss after training is not measurably lower than that {words} "
            f"({change.middle:+.3f} nats, 95 % [{change.lower:.3f}, {change.upper:.3f}]), so losses hardly tell "
            "choices apart; train for more steps, hold out more examples, or give examples with answers that follow "
            "from their prompts"
        )


def _warn_of_a_worse_cut(
    start: NDArray[np.float64], base: NDArray[np.float64], tokens: NDArray[np.int64], feedback: Feedback
) -> None:
    """Notes if the smaller model that a recipe takes without a search is worse than the base, by the paired interval.

    Args:
        start: Loss of that model on each validation example. Shape (n_examples,).
        base: That of the base without adapter. Shape (n_examples,).
        tokens: Number of completion tokens of each. Shape (n_examples,).
    """
    rise = paired_difference(start, base, tokens)
    if rise.lower > 0:
        feedback.note(
            "the recipe's choice, a smaller model, has a higher validation loss than the base without adapter "
            f"({rise.middle:+.3f} nats, 95 % [{rise.lower:.3f}, {rise.upper:.3f}]); train for more steps, or leave "
            "out less of the base by a looser budget"
        )


def _warn_of_overfitting(
    seen: Mapping[int, NDArray[np.float64]],
    last: NDArray[np.float64],
    tokens: NDArray[np.int64],
    feedback: Feedback,
) -> None:
    """Notes if the validation loss of the whole adapter was lower at an earlier step, by the paired interval.

    Args:
        seen: Step -> loss of each validation example. Shape (n_examples,) each.
        last: The same after the last step.
        tokens: Number of completion tokens of each. Shape (n_examples,).
    """
    if not seen:
        return
    step = min(seen, key=lambda step: float(seen[step].sum()))
    rise = paired_difference(last, seen[step], tokens)
    if rise.lower > 0:
        before, after = (float(sums.sum() / tokens.sum()) for sums in (seen[step], last))
        feedback.note(
            f"training overfits: the validation loss of the whole adapter rose from {before:.3f} after {step} steps to "
            f"{after:.3f} ({rise.middle:+.3f} nats, 95 % [{rise.lower:.3f}, {rise.upper:.3f}]); train again with about "
            f"{step} steps, more examples or a lower learning rate"
        )


def _space(request: TrainRequest, recipe: Recipe, shape: ModelShape) -> Space:
    """Space of the recipe with its ranks, each replaced if given."""
    if request.space is not None and is_space_file(request.space):
        return space_of(request.space, shape, ranks=request.ranks)
    ranks = recipe.ranks if request.ranks is None else request.ranks
    return recipe.space(shape, ranks=ranks) if request.space is None else space_of(request.space, shape, ranks=ranks)


def _step(request: TrainRequest, recipe: Recipe, space: Space, shape: ModelShape) -> TrainingStep:
    """Step of the recipe, with draws around the budget if there is one."""
    budget, predictor = request.budget, request.predictor
    if budget is None and predictor is None:
        return recipe.step
    if budget is None or predictor is None:
        missing, given = ("budget", "predictor") if budget is None else ("predictor", "budget")
        raise InputError(f"training around a budget needs a predictor and a budget; give a {missing}, or no {given}")
    if not recipe.layer.separable:
        raise InputError(
            f"adapters of the recipe {recipe.name!r} are merged, so all take as long as their base; give no budget",
            parameter="budget",
        )
    fitted = load_predictor(predictor)
    check_predictor(fitted, shape, recipe.quantisation(request.quantisation))
    limit = predicted_limit(budget, fitted, space.dimensions)
    smallest_that_fits(space, [limit])  # raises if the budget is infeasible
    return replace(recipe.step, sampler=BudgetSampler(limit))
