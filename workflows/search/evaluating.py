"""Losses of configurations computed by several processes, on this machine or on a cluster."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import joblib

from adaptare.core import InputError, MissingPackageError
from adaptare.core.codec import to_json
from adaptare.search import CompletionLoss
from adaptare.search.super_adapter import hash_of_weights
from adaptare.search.training import Asked, Remembered, Values
from adaptare.workflows.train.adaptation import reload_adaptation
from adaptare.workflows.train.task import Task

# In the folder of a training. A search that was interrupted, and a further one, start from it.
EVALUATIONS: Final = "evaluations.jsonl"
RAY: Final = "ray"
BACKENDS: Final = ("loky", RAY)


def remembered_in(folder: Path, task: Task) -> Remembered:
    """Losses and estimates that earlier searches of a training computed."""
    return Remembered(folder / EVALUATIONS, of=[hash_of_weights(folder), to_json(task)])


@dataclass(frozen=True)
class Workers:
    """Processes that load a trained super-adapter each.

    Args:
        n: Number of processes; 1 computes in this one.
        backend: Name of a backend of joblib: `loky`, processes of this machine, or `ray`, those of the Ray cluster that
            `RAY_ADDRESS` names, else of this machine.
    """

    n: int = 1
    backend: str = BACKENDS[0]

    def __post_init__(self) -> None:
        if self.n < 1:
            raise InputError(f"the number of workers must be at least 1, not {self.n}", parameter="workers")
        if self.backend not in BACKENDS:
            known = " or ".join(BACKENDS)
            raise InputError(f"the backend must be {known}, not {self.backend!r}", parameter="backend")
        if self.backend == RAY:
            _register_ray()

    def of(self, folder: Path) -> Callable[[Sequence[Asked]], Sequence[Sequence[Values]]] | None:
        """Computes the validation losses of a trained super-adapter; `None` for one process."""
        return None if self.n == 1 else partial(self._compute, folder.resolve())

    def _compute(self, folder: Path, asked: Sequence[Asked]) -> Sequence[Sequence[Values]]:
        with joblib.parallel_config(backend=self.backend, n_jobs=self.n):
            found: Sequence[Sequence[Values]] = joblib.Parallel()(joblib.delayed(_nats)(folder, one) for one in asked)
        return found


def _nats(folder: Path, asked: Asked) -> Sequence[Values]:
    codes, groups = asked
    return _loss(folder).nats(codes, groups)


@lru_cache(maxsize=1)
def _loss(folder: Path) -> CompletionLoss:
    adaptation, super_adapter = reload_adaptation(folder)
    return CompletionLoss(super_adapter, adaptation.examples.validation)


def _register_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as telemetry of ONNX Runtime: nobody is told
    try:
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise MissingPackageError(
            "the backend ray needs the package ray; install it with pip install 'adaptare[ray]', or take loky"
        ) from error
    register_ray()  # type: ignore[no-untyped-call, unused-ignore]
