"""Training a super-adapter, so that it can be interrupted at any time and loses nothing."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainingArguments

from adaptare.devices import InputError, Json, StorageError
from adaptare.search.adapter_trainer import AdapterTrainer, StepCallback, last_checkpoint
from adaptare.search.interrupts import interrupts_noted
from adaptare.search.step_sampler import SandwichSampler, StepSampler
from adaptare.search.super_adapter import SuperAdapter
from adaptare.search.super_adapter_file import describe, load_tensors, save_super_adapter
from adaptare.search.token_examples import TokenExample, pad_batch

_RECORD = "training.json"


@dataclass(frozen=True)
class TrainingOutcome:
    """How far training came.

    Args:
        steps: Steps it should have.
        losses: Training loss of each step done so far, in nats per completion token, earlier calls included.
        seconds: Duration of this call.
    """

    steps: int
    losses: tuple[float, ...]
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return len(self.losses) >= self.steps


def train_super_adapter(
    super_adapter: SuperAdapter,
    examples: Sequence[TokenExample],
    *,
    folder: str | Path,
    steps: int,
    batch_size: int = 8,
    micro_batches: int = 1,
    learning_rate: float = 2e-3,
    seed: int,
    sampler: StepSampler | None = None,
    save_every: int = 50,
    max_seconds: float | None = None,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> TrainingOutcome:
    """Trains all slices of a super-adapter together, one sampled configuration per optimiser step.

    The optimiser is AdamW without weight decay; the learning rate falls linearly to zero. Rows of A and columns
    of B outside the active rank get a gradient of zero, and what momentum they have still moves them: it is left
    to run out, as in the published systems. Sites at rank 0 take no part in a step and do not move.

    The folder ends up with the super-adapter. Until all steps are done it also holds a checkpoint; the same call
    goes on from there, and ends with the weights an uninterrupted call would have given. A Ctrl-C lets the
    current step end, writes a checkpoint and raises `KeyboardInterrupt`; a second one does not wait.
    Transformers seeds the global random generators with `seed`.

    Args:
        super_adapter: Trained in place; what was active before is active again afterwards.
        examples: What to learn.
        folder: Of this training alone.
        steps: Optimiser steps in all, earlier calls included.
        batch_size: Examples per micro-batch.
        micro_batches: Micro-batches per step; their gradients are added up.
        learning_rate: At the start.
        seed: Of the order of the examples and of the configurations.
        sampler: Draws the configuration of each step; default: `SandwichSampler()`.
        save_every: Steps between checkpoints.
        max_seconds: Ends this call with a checkpoint when it has taken so long.
        stop: Asked after every step; true ends this call with a checkpoint.
        progress: Called after every step with steps done, steps in all, and the loss of the step.

    Raises:
        InputError: An argument is out of range, or the folder holds a training with other arguments or data.
        StorageError: The folder cannot be written.
        KeyboardInterrupt: On Ctrl-C, once the checkpoint is written.
    """
    sampler = sampler or SandwichSampler()
    _check(examples, steps, batch_size, micro_batches, learning_rate, save_every)
    settings: dict[str, Json] = {
        "steps": steps,
        "batch_size": batch_size,
        "micro_batches": micro_batches,
        "learning_rate": learning_rate,
        "seed": seed,
        "sampler": repr(sampler),
        "examples": hashlib.sha256(repr(tuple(examples)).encode()).hexdigest()[:16],
        "super_adapter": describe(super_adapter),
    }
    place, began = Path(folder), time.monotonic()
    earlier = _earlier_losses(place, settings)
    if len(earlier) >= steps:
        load_tensors(super_adapter, place)
        return TrainingOutcome(steps, earlier, time.monotonic() - began)
    _write_record(place, settings, earlier)
    with interrupts_noted() as interrupted:

        def should_stop() -> bool:
            late = max_seconds is not None and time.monotonic() - began >= max_seconds
            return late or interrupted() or (stop is not None and stop())

        trainer = AdapterTrainer(
            super_adapter,
            args=_arguments(place, settings, save_every),
            data_collator=pad_batch,
            train_dataset=list(examples),
            callbacks=[
                StepCallback(
                    super_adapter,
                    sampler=sampler,
                    seed=seed,
                    stop=should_stop,
                    progress=progress or (lambda done, of, loss: None),
                )
            ],
        )
        losses = _run(trainer, super_adapter, place)
        save_super_adapter(super_adapter, place)
        _write_record(place, settings, losses)
        was_interrupted = interrupted()
    if len(losses) >= steps:
        for checkpoint in place.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    if was_interrupted:
        raise KeyboardInterrupt
    return TrainingOutcome(steps, losses, time.monotonic() - began)


def _run(trainer: AdapterTrainer, super_adapter: SuperAdapter, folder: Path) -> tuple[float, ...]:
    trainer.remove_callback(PrinterCallback)
    model = super_adapter.model
    training, use_cache = model.training, model.config.use_cache
    checkpoint = last_checkpoint(folder)
    try:
        with super_adapter.activated(super_adapter.largest):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except OSError as error:
        raise StorageError(f"training cannot write to {str(folder)!r}: {error.strerror or error}") from error
    finally:
        model.train(training)
        model.config.use_cache = use_cache
    return tuple(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


def _arguments(folder: Path, settings: dict[str, Json], save_every: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["batch_size"],
        gradient_accumulation_steps=settings["micro_batches"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="linear",
        weight_decay=0.0,
        seed=settings["seed"],
        logging_steps=1,
        save_strategy="steps",
        save_steps=save_every,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        report_to=[],
    )


def _check(
    examples: Sequence[TokenExample],
    steps: int,
    batch_size: int,
    micro_batches: int,
    learning_rate: float,
    save_every: int,
) -> None:
    if not examples:
        raise InputError("there is nothing to train on; pass at least one example")
    whole = {"steps": steps, "batch_size": batch_size, "micro_batches": micro_batches, "save_every": save_every}
    for name, value in whole.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    if not 0 < learning_rate < 1:
        raise InputError(f"learning_rate must be above 0 and below 1, not {learning_rate}")


def _earlier_losses(folder: Path, settings: dict[str, Json]) -> tuple[float, ...]:
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / _RECORD} cannot be read: {error}; use another folder") from error
    now = json.loads(json.dumps(settings))
    for name, value in now.items():
        found = record["settings"].get(name)
        if found != value:
            what = f"{name} {found}, not {value}" if not isinstance(value, dict) else f"another {name}"
            raise InputError(f"{str(folder)!r} holds a training with {what}; use another folder, or remove this one")
    return tuple(record["losses"])


def _write_record(folder: Path, settings: dict[str, Json], losses: tuple[float, ...]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        record = json.dumps({"settings": settings, "losses": losses}, indent=1)
        (folder / _RECORD).write_text(record, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"training cannot write to {str(folder)!r}: {error.strerror or error}") from error
