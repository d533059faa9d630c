"""Further training of one configuration of a super-adapter."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.profiler import Configuration
from adaptare.profiler.workloads import rank_space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.rebasis import on_space
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter


@contextmanager
def polished(
    super_adapter: SuperAdapter,
    config: Configuration,
    examples: Sequence[TokenExample],
    *,
    steps: int,
    learning_rate: float = 1e-3,
    seed: int,
    bf16: bool = False,
    feedback: Feedback = SILENT,
    checkpoints: Path | None = None,
    max_seconds: float | None = None,
) -> Iterator[SuperAdapter]:
    """Yields a super-adapter of one configuration alone, trained for some more steps.

    It takes the place of the super-adapter on the model within the context; the super-adapter is unchanged.

    Args:
        super_adapter: Trained super-adapter.
        config: Sites and ranks, at least one.
        examples: Training examples.
        steps: Optimiser steps.
        learning_rate: Initial learning rate, which decays to zero.
        seed: Seed of the order of the examples.
        bf16: See `TrainingSettings`.
        feedback: Its progress shows the steps.
        checkpoints: Folder from which an interrupted training is resumed; `None` for none.
        max_seconds: Duration after which training stops.

    Raises:
        InputError: The config is empty or is not of this super-adapter, or an argument is out of range.
    """
    if not config.ranks:
        raise InputError("an adapter without any site has nothing to train; choose a configuration with at least one")
    super_adapter.codes(config)
    ranks = config.ranks
    space = rank_space("one", super_adapter.shape, [[path] for path, _ in ranks], [[rank] for _, rank in ranks])
    with feedback.progress("polishing") as update, super_adapter.lifted():
        only = on_space(super_adapter, space)
        try:
            with nullcontext(checkpoints) if checkpoints else tempfile.TemporaryDirectory() as folder:
                train_super_adapter(
                    only,
                    examples,
                    TrainingSettings(steps, seed, learning_rate=learning_rate, bf16=bf16),
                    folder=folder,
                    max_seconds=max_seconds,
                    progress=lambda done, of, loss: update(done / of, f"step {done} of {of}, loss {loss:.2f}"),
                )
            yield only
        finally:
            only.remove()
