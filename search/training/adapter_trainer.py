"""Extensions of `transformers.Trainer` for a super-adapter."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from adaptare.search.super_adapter.file import load_tensors, save_super_adapter
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.step_sampler import StepSampler, step_codes


class AdapterTrainer(Trainer):  # type: ignore[misc]  # transformers has no types
    """Trainer whose checkpoints hold the adapter alone, without the base model."""

    def __init__(self, super_adapter: SuperAdapter, **parts: Any) -> None:
        super().__init__(model=super_adapter.model, **parts)
        self._super_adapter = super_adapter

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        save_super_adapter(self._super_adapter, output_dir or self.args.output_dir)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_tensors(self._super_adapter, resume_from_checkpoint)


class StepCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Activates one configuration per optimiser step, reports each step, and ends training on request.

    The configuration depends on seed and step alone, so a resumed run draws the same ones as an uninterrupted run. It
    is set once, before the first micro-batch, and stays fixed until the step is done, including further micro-batches
    and the recomputation of activations in the backward pass.

    Args:
        super_adapter: The trained super-adapter.
        sampler: Draws the configurations.
        seed: Seed of the draws.
        stop: Called after every step; true ends training with a checkpoint.
        progress: Called after every step with steps done, steps in total, and the loss of the step.
    """

    def __init__(
        self,
        super_adapter: SuperAdapter,
        *,
        sampler: StepSampler,
        seed: int,
        stop: Callable[[], bool],
        progress: Callable[[int, int, float], None],
    ) -> None:
        self._super_adapter = super_adapter
        self._sampler = sampler
        self._seed = seed
        self._stop = stop
        self._progress = progress

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **others: object
    ) -> None:
        """Draws the configuration, before the first micro-batch of a step."""
        codes = step_codes(self._sampler, self._super_adapter.space, seed=self._seed, step=state.global_step)
        self._super_adapter.activate(codes)

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


def last_checkpoint(folder: Path) -> Path | None:
    """Newest complete checkpoint."""
    # The state of the trainer is the last file written in a checkpoint.
    whole = [file.parent for file in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda checkpoint: int(checkpoint.name.partition("-")[2]), default=None)
