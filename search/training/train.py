"""Training of a super-adapter, interruptible and resumable at any time without loss."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainingArguments

from adaptare.core import InputError, StorageError
from adaptare.core.interrupts import interrupts_noted
from adaptare.search.super_adapter.file import describe, load_tensors, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.adapter_trainer import (
    AdapterTrainer,
    StepCallback,
    check_checkpoint,
    last_checkpoint,
    training_mode,
)
from adaptare.search.training.passes import frozen_weights_in_bfloat16, pad_batch
from adaptare.search.training.record import TrainingSettings, hash_of, read_losses, write_record
from adaptare.search.training.step import DEFAULT_STEP, TrainingStep
from adaptare.search.training.token_examples import TokenExample


def train_super_adapter(
    super_adapter: SuperAdapter,
    examples: Sequence[TokenExample],
    settings: TrainingSettings,
    *,
    folder: str | Path,
    step: TrainingStep = DEFAULT_STEP,
    max_seconds: float | None = None,
    stop: Callable[[], bool] | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[float, ...]:
    """Trains all configurations of a super-adapter together, some of them in each optimiser step.

    The optimiser is AdamW without weight decay; the learning rate decays linearly to zero. Rows of A and columns
    of B outside the active rank get a gradient of zero, but their remaining momentum still updates them, as in the
    published systems. Sites at rank 0 take no part in a step and are not updated.

    The super-adapter is saved in the folder. Until all steps are done it also holds a checkpoint; the same call
    resumes from it and ends with the same weights as an uninterrupted call. Ctrl-C lets the current step finish,
    writes a checkpoint and raises `KeyboardInterrupt`; a second one does not wait.
    Transformers seeds the global random generators with the seed of the settings.

    Args:
        super_adapter: Trained in place; its active configuration is restored afterwards.
        examples: Training examples.
        settings: Number and size of the steps, seed, and how they are computed.
        folder: Folder for this training alone.
        step: Configurations of each optimiser step, and what they learn from.
        max_seconds: Duration after which this call ends with a checkpoint.
        stop: Called after every step; true ends this call with a checkpoint.
        progress: Called after every step with steps done, steps in total, and the loss of the step.

    Returns:
        Training loss of each completed step, in nats per completion token, including earlier calls. Fewer than the
        steps of the settings if the call was stopped.

    Raises:
        InputError: There are no examples, or the folder holds a training with other settings or data.
        StorageError: The folder cannot be written.
        KeyboardInterrupt: On Ctrl-C, once the checkpoint is written.
    """
    if not examples:
        raise InputError("there is nothing to train on; pass at least one example")
    recorded = {
        **settings.recorded(),
        "step": repr(step),
        "examples": hash_of(examples),
        "super_adapter": describe(super_adapter),
    }
    place, began = Path(folder), time.monotonic()
    losses = read_losses(place, recorded)
    if len(losses) >= settings.steps:
        load_tensors(super_adapter, place)
        return losses
    write_record(place, recorded, losses)
    with interrupts_noted() as interrupted:

        def should_stop() -> bool:
            late = max_seconds is not None and time.monotonic() - began >= max_seconds
            return late or interrupted() or (stop is not None and stop())

        with (
            training_mode(super_adapter.model, activation_checkpointing=settings.activation_checkpointing),
            frozen_weights_in_bfloat16(super_adapter.model, enabled=settings.bf16),
        ):
            trainer = AdapterTrainer(
                super_adapter,
                step=step,
                bf16=settings.bf16,
                args=training_arguments(place, settings),
                data_collator=pad_batch,
                train_dataset=list(examples),
                callbacks=[StepCallback(stop=should_stop, progress=progress or (lambda *_: None))],
            )
            losses = _trained(super_adapter, trainer, place)
        save_super_adapter(super_adapter, place)
        write_record(place, recorded, losses)
        was_interrupted = interrupted()
    if len(losses) >= settings.steps:
        for checkpoint in place.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    if was_interrupted:
        raise KeyboardInterrupt
    return losses


def _trained(super_adapter: SuperAdapter, trainer: AdapterTrainer, folder: Path) -> tuple[float, ...]:
    if checkpoint := last_checkpoint(folder):
        check_checkpoint(checkpoint)
    trainer.remove_callback(PrinterCallback)
    try:
        with super_adapter.activated(super_adapter.largest):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except OSError as error:
        raise StorageError(f"training cannot write to {str(folder)!r}: {error.strerror or error}") from error
    return tuple(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


def training_arguments(folder: Path, settings: TrainingSettings) -> TrainingArguments:
    """Arguments of `transformers.Trainer` for a training in a folder."""
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.micro_batches,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        weight_decay=0.0,
        seed=settings.seed,
        logging_steps=1,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=1,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        report_to=list(settings.report_to),
    )
