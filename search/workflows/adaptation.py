"""Base model with its examples and its super-adapter, trained or loaded."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from adaptare.devices.exit_codes import ExitCode
from adaptare.profiler import Quantisation, Space
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.results.report import Feedback, Section
from adaptare.search import CompletionLoss, SuperAdapter, load_base, load_super_adapter, train_super_adapter
from adaptare.search.super_adapter.quantised_base import round_base
from adaptare.search.training.token_examples import TokenSplit
from adaptare.search.training.train import check_examples
from adaptare.search.workflows.task import Task, check_unclaimed, examples_of, load_task, save_task, texts_of


@dataclass(frozen=True)
class Adaptation:
    """Loaded inputs of training."""

    task: Task
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    examples: TokenSplit


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Args:
        super_adapter: Super-adapter on its base model.
        steps: Optimiser steps done.
        seconds: Duration of this call.
        base_loss: Validation loss without adapter, nats per completion token.
        full_loss: Validation loss with every rank at its largest.
        validation: Loss of any configuration on the validation examples.
    """

    super_adapter: SuperAdapter
    steps: int
    seconds: float
    base_loss: float
    full_loss: float
    validation: CompletionLoss


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
        yield f"held-out loss {trained.base_loss:.3f} without adapter, {trained.full_loss:.3f} with all of it"
        search = f"adaptare search {self.folder} --predictor PREDICTOR --budget overhead=5%"
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
            "base_loss": trained.base_loss,
            "full_loss": trained.full_loss,
            "examples": len(examples.train),
            "dropped": examples.dropped,
            "cut": examples.cut,
        }


def load_adaptation(
    source: ModelSource, *, data: Path | None, seed: int, max_tokens: int, held_out: int, quantisation: Quantisation
) -> Adaptation:
    """Loads weights, tokenizer and examples of a model."""
    task = Task(
        model=str(source.weights_folder().resolve()),
        model_name=source.name,
        data=str(data.resolve()) if data else None,
        seed=seed,
        max_tokens=max_tokens,
        held_out=held_out,
        quantisation=quantisation,
    )
    return _load(task)


def reload_adaptation(folder: Path) -> tuple[Adaptation, SuperAdapter]:
    """Loads the output folder of `adaptare train`. Raises `InputError` if its examples have changed since."""
    adaptation = _load(load_task(folder))
    check_examples(folder, adaptation.examples.train)
    return adaptation, load_super_adapter(folder, adaptation.model)


def train_adaptation(
    adaptation: Adaptation,
    space: Space,
    *,
    folder: Path,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    feedback: Feedback,
    max_seconds: float | None = None,
) -> Trained:
    """Trains, or resumes training, the super-adapter in a folder."""
    check_unclaimed(adaptation.task, folder)
    super_adapter = SuperAdapter(adaptation.model, space, seed=seed)
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
            folder=folder,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            max_seconds=max_seconds,
            progress=show,
        )
    save_task(adaptation.task, folder)
    validation = CompletionLoss(super_adapter, adaptation.examples.validation)
    base_loss, full_loss = (
        float(validation(codes[None])[0]) for codes in (space.base, super_adapter.largest)
    )
    seconds = time.monotonic() - started
    return Trained(super_adapter, len(outcome.losses), seconds, base_loss, full_loss, validation)


def _load(task: Task) -> Adaptation:
    texts = texts_of(task)
    model, tokenizer = load_base(task.model)
    round_base(model, task.quantisation)
    return Adaptation(task, model, tokenizer, examples_of(task, texts, tokenizer))
