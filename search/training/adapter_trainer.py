"""Extensions of `transformers.Trainer` for a super-adapter."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import integration_utils as integrations
from transformers.trainer_pt_utils import safe_globals

from adaptare.core import InputError
from adaptare.core.strict_json import read_json
from adaptare.search.super_adapter.file import load_tensors, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.gradients import accumulate_gradients
from adaptare.search.training.step import TrainingStep

# Last file that is written of a checkpoint.
STATE: Final = "trainer_state.json"


class AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """Trainer of several configurations per step, whose checkpoints hold the adapter alone, without the base model.

    The configurations depend on seed and step alone, so a resumed run draws the same ones as an uninterrupted run.

    Args:
        super_adapter: The trained super-adapter.
        step: Configurations and losses of a step.
        bf16: See `accumulate_gradients`.
        parts: Arguments of `Trainer`; the seed of the configurations is that of its `args`.
    """

    def __init__(self, super_adapter: SuperAdapter, *, step: TrainingStep, bf16: bool, **parts: Any) -> None:
        super().__init__(model=super_adapter.model, **parts)
        self.model_accepts_loss_kwargs = True  # lets the trainer count the completion tokens of a step
        self._super_adapter = super_adapter
        self._step = step
        self._bf16 = bf16
        self._drawn: tuple[int, NDArray[np.int64]] | None = None

    def training_step(
        self, model: nn.Module, inputs: Mapping[str, torch.Tensor], num_items_in_batch: int | torch.Tensor
    ) -> torch.Tensor:
        """Adds the gradients of one micro-batch. Returns its share of the loss of the step."""
        model.train()
        # Afterwards the model has all layers again, whose gradients the trainer clips and clears.
        with self._super_adapter.activated(self._super_adapter.largest):
            return accumulate_gradients(
                self._super_adapter,
                self._codes(self.state.global_step),
                self._prepare_inputs(inputs),
                n_tokens=num_items_in_batch,
                distil=self._step.distil,
                bf16=self._bf16,
                backward=self.accelerator.backward,
            )

    def _codes(self, step: int) -> NDArray[np.int64]:
        """Configurations of a step, drawn at its first micro-batch."""
        if self._drawn is None or self._drawn[0] != step:
            self._drawn = step, self._step.codes(self._super_adapter.space, seed=self.args.seed, step=step)
        return self._drawn[1]

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        save_super_adapter(self._super_adapter, output_dir or self.args.output_dir)

    def _save_checkpoint(self, *arguments: Any, **others: Any) -> None:
        try:
            super()._save_checkpoint(*arguments, **others)
        except RuntimeError as error:  # that of torch.save if the disk is full
            raise OSError(f"a checkpoint could not be written; is the disk full? ({error})") from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_tensors(self._super_adapter, resume_from_checkpoint)


class StepCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Reports each step, and ends training on request.

    Args:
        stop: Called after every step; true ends training with a checkpoint.
        progress: Called after every step with steps done, steps in total, and the loss of the step.
    """

    def __init__(self, *, stop: Callable[[], bool], progress: Callable[[int, int, float], None]) -> None:
        self._stop = stop
        self._progress = progress

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: object
    ) -> None:
        """Checks for a stop request, after the optimiser's update."""
        if self._stop():
            control.should_save = control.should_training_stop = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: object) -> None:
        """Reports the loss of a step; called once more at the end of training."""
        newest = state.log_history[-1]
        if "loss" in newest:
            self._progress(state.global_step, state.max_steps, newest["loss"])


@contextmanager
def training_mode(model: PreTrainedModel, *, activation_checkpointing: bool) -> Iterator[None]:
    """Restores the model's mode and configuration afterwards; checkpoints activations within, if asked."""
    training, use_cache = model.training, model.config.use_cache
    # transformers 5.24 renamed both and warns about the old names.
    prefix = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if activation_checkpointing:
        getattr(model, f"{prefix}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        if activation_checkpointing:
            getattr(model, f"{prefix}_checkpointing_disable")()
        model.train(training)
        model.config.use_cache = use_cache


def last_checkpoint(folder: Path) -> Path | None:
    """Newest complete checkpoint."""
    # The state of the trainer is the last file written in a checkpoint.
    whole = {file.parent.name.partition("-")[2]: file.parent for file in folder.glob(f"checkpoint-*/{STATE}")}
    newest = max(filter(str.isdecimal, whole), key=int, default=None)
    return None if newest is None else whole[newest]


def check_checkpoint(checkpoint: Path) -> None:
    """Raises `InputError` if a file of a checkpoint is damaged, or holds anything but tensors and plain values.

    The trainer reads the same files, also without running code in them, but its errors could be those of a step.
    """
    try:
        read_json(checkpoint / STATE)
        for file in sorted(checkpoint.glob("*.pt*")):
            with safe_globals():  # for the state of NumPy's random generator
                torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError, UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the checkpoint {str(checkpoint)!r} cannot be read: {reason}; remove it, and training begins again"
        ) from error


def check_trackers(names: Sequence[str]) -> None:
    """Raises `InputError` unless transformers knows each name, and its package is installed."""
    for name in names:
        if name not in integrations.INTEGRATION_TO_CALLBACK:
            takes = ", ".join(sorted(integrations.INTEGRATION_TO_CALLBACK))
            raise InputError(f"transformers reports to none called {name!r}; it knows {takes}", parameter="report_to")
        if name not in integrations.get_available_reporting_integrations():
            raise InputError(f"the package of {name} is not installed; install it, and repeat", parameter="report_to")
