"""Base model with its examples and its super-adapter, trained or loaded."""

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.core.codec import to_json
from adaptare.core.exit_codes import ExitCode
from adaptare.core.progress import Feedback
from adaptare.core.table import Section
from adaptare.core.units import between
from adaptare.profiler import Quantisation, Space
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.models.model_source import ModelSource, published_name
from adaptare.search import CompletionLoss, SuperAdapter, load_base, load_super_adapter, train_super_adapter
from adaptare.search.recipes.recipe import Recipe, recipe_named
from adaptare.search.super_adapter.quantised_base import keep_masters, round_base
from adaptare.search.training.accuracy import Accuracy
from adaptare.search.training.answers import Scoring
from adaptare.search.training.record import TrainingSettings, check_examples
from adaptare.search.training.step import TrainingStep
from adaptare.search.training.token_examples import TokenSplit
from adaptare.workflows.train.accuracies import accuracies_of, right_answers
from adaptare.workflows.train.accuracy_table import accuracy_table
from adaptare.workflows.train.prepared_base import base_folder, prepare_base, with_layer_order
from adaptare.workflows.train.task import Task, check_unclaimed, examples_of, load_task, save_task, texts_of


@dataclass(frozen=True)
class Adaptation:
    """Loaded inputs of training.

    Args:
        base: Folder of the base's weights, before any rounding: the model's, or one that the recipe prepared.
    """

    task: Task
    recipe: Recipe
    base: Path
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    examples: TokenSplit

    @property
    def base_name(self) -> str | None:
        """See `published_name`; a prepared base has no name but its folder."""
        if self.recipe.prepare is not None:
            return str(self.base)
        return published_name(self.task.model_name, self.task.model)


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Args:
        super_adapter: Super-adapter on its base model.
        steps: Optimiser steps done.
        seconds: Duration of this call.
        base_loss: Validation loss without adapter, nats per completion token.
        start_loss: Validation loss of the configuration that the recipe takes without a search.
        full_loss: Validation loss with every rank at its largest.
        validation: Loss of any configuration on the validation examples.
        accuracies: On the validation questions: majority, untrained, and every rank at its largest; none without
            multiple-choice data.
    """

    super_adapter: SuperAdapter
    steps: int
    seconds: float
    base_loss: float
    start_loss: float
    full_loss: float
    validation: CompletionLoss
    accuracies: tuple[Accuracy, ...] = ()

    @property
    def improvement(self) -> Interval:
        """Difference of the full loss to that of the base, paired over the validation examples."""
        return self.validation.difference(self.super_adapter.largest, self.super_adapter.space.base)


@dataclass(frozen=True)
class TrainReport:
    """Report of a training."""

    model: str
    folder: Path
    adaptation: Adaptation
    trained: Trained
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        trained = self.trained
        change = trained.improvement
        ends = between(change.lower, change.upper, lambda loss: f"{loss:+.3f}")
        yield (
            f"held-out loss {trained.base_loss:.3f} without adapter, {trained.start_loss:.3f} with the recipe's choice "
            f"without a search, {trained.full_loss:.3f} with all of it: {change.middle:+.3f}, 95 % {ends}"
        )
        if trained.accuracies:
            yield accuracy_table(trained.accuracies, "validation")
        budget = "decode=-15%" if trained.super_adapter.space.cuts_base else "overhead=5%"
        search = f"adaptare search {self.folder} --predictor PREDICTOR --budget {budget}"
        yield f"written: {self.folder}; next: {search}"

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        examples, trained = self.adaptation.examples, self.trained
        return {
            "model": self.model,
            "folder": str(self.folder),
            "quantisation": self.adaptation.task.quantisation,
            "steps": trained.steps,
            "seconds": trained.seconds,
            "recipe": self.adaptation.recipe.name,
            "base_loss": trained.base_loss,
            "start_loss": trained.start_loss,
            "full_loss": trained.full_loss,
            "loss_difference": asdict(trained.improvement),
            "accuracies": to_json(trained.accuracies),
            "examples": len(examples.train),
            "dropped": examples.dropped,
            "cut": examples.cut,
        }


def load_adaptation(
    source: ModelSource,
    *,
    recipe: Recipe,
    folder: Path,
    data: Path | None,
    seed: int,
    max_tokens: int,
    held_out: int,
    quantisation: Quantisation | None,
    validation: Path | None = None,
    test: Path | None = None,
    scoring: Scoring = "sum",
) -> Adaptation:
    """Loads weights, tokenizer and examples of a model, for a training in a folder.

    The base that a recipe prepares is made once, and saved there. Without a quantisation it has the recipe's default.
    """
    task = Task(
        model=str(source.weights_folder().resolve()),
        model_name=source.name,
        data=_absolute(data),
        seed=seed,
        max_tokens=max_tokens,
        held_out=held_out,
        quantisation=recipe.quantisation(quantisation),
        recipe=recipe.name,
        validation=_absolute(validation),
        test=_absolute(test),
        scoring=scoring,
    )
    check_unclaimed(task, folder)
    prepare_base(task, recipe, folder)
    return _load(task, recipe, folder)


def reload_adaptation(folder: Path) -> tuple[Adaptation, SuperAdapter]:
    """Loads the output folder of `adaptare train`. Raises `InputError` if its examples have changed since."""
    task = load_task(folder)
    adaptation = _load(task, recipe_named(task.recipe), folder)
    check_examples(folder, adaptation.examples.train)
    return adaptation, load_super_adapter(folder, adaptation.model, layer=adaptation.recipe.layer)


def train_adaptation(
    adaptation: Adaptation,
    space: Space,
    *,
    folder: Path,
    settings: TrainingSettings,
    feedback: Feedback,
    max_seconds: float | None = None,
    step: TrainingStep | None = None,
) -> Trained:
    """Trains, or resumes training, the super-adapter in a folder.

    Args:
        step: Configurations of each optimiser step; default: the recipe's.
    """
    check_unclaimed(adaptation.task, folder)
    recipe, space = adaptation.recipe, with_layer_order(space, adaptation.base)
    super_adapter = SuperAdapter(
        adaptation.model, space, scaling=recipe.scaling, seed=settings.seed, layer=recipe.layer
    )
    started = time.monotonic()
    claimed = False
    with feedback.progress("training") as update:

        def show(done: int, of: int, loss: float) -> None:
            nonlocal claimed
            if not claimed:  # from the first step on, so that no run resumes it on another base
                save_task(adaptation.task, folder)
                claimed = True
            update(done / of, f"step {done} of {of}, loss {loss:.2f}")

        outcome = train_super_adapter(
            super_adapter,
            adaptation.examples.train,
            settings,
            folder=folder,
            step=step or recipe.step,
            max_seconds=max_seconds,
            progress=show,
        )
    save_task(adaptation.task, folder)
    validation = CompletionLoss(super_adapter, adaptation.examples.validation)
    start = space.expand(recipe.start(space)[None])[0]
    base_loss, start_loss, full_loss = map(float, validation(np.stack([space.base, start, super_adapter.largest])))
    questions, scoring = adaptation.examples.validation_questions, adaptation.task.scoring
    right = {"trained": right_answers(questions, super_adapter, super_adapter.largest, scoring=scoring)}
    accuracies = accuracies_of(
        questions, right, base=super_adapter, majority=adaptation.examples.majority, scoring=scoring
    )
    seconds = time.monotonic() - started
    return Trained(
        super_adapter, len(outcome.losses), seconds, base_loss, start_loss, full_loss, validation, accuracies
    )


def _absolute(file: Path | None) -> str | None:
    return str(file.resolve()) if file else None


def _load(task: Task, recipe: Recipe, folder: Path) -> Adaptation:
    texts, base = texts_of(task), base_folder(task, recipe, folder)
    model, tokenizer = load_base(base)
    if getattr(recipe.layer, "on_grid", False):
        keep_masters(model)
    round_base(model, task.quantisation)
    return Adaptation(task, recipe, base, model, tokenizer, examples_of(task, texts, tokenizer))
