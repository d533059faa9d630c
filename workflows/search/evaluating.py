"""Losses of configurations computed by several processes, on this machine or on a cluster."""

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

import joblib

from adaptare.core import InputError
from adaptare.core.codec import to_json
from adaptare.core.lazy_names import check_installed
from adaptare.search import CompletionLoss
from adaptare.search.super_adapter import hash_of_weights
from adaptare.search.training import Asked, Remembered, Values
from adaptare.workflows.train.adaptation import reload_adaptation
from adaptare.workflows.train.task import Task

# In the folder of a training. A search that was interrupted, and a further one, start from it.
EVALUATIONS: Final = "evaluations.jsonl"
RAY: Final = "ray"
BACKENDS: Final = ("loky", RAY)


def remembered_in(folder: Path, task: Task, *, bf16: bool) -> Remembered:
    """Losses and estimates that earlier searches of a training computed in the same precision."""
    precision = ["bf16"] if bf16 else []
    return Remembered(folder / EVALUATIONS, of=[hash_of_weights(folder), to_json(task), *precision])


def computed_elsewhere(
    folder: Path, *, workers: int, backend: str, bf16: bool
) -> Callable[[Sequence[Asked]], Sequence[Sequence[Values]]] | None:
    """Computes validation losses of a trained super-adapter in processes that load it; `None` for one process.

    Args:
        workers: Number of processes; 1 computes in this one.
        backend: Name of a backend of joblib: `loky`, processes of this machine, or `ray`, those of the Ray cluster that
            `RAY_ADDRESS` names, else of this machine.
        bf16: True to compute in bfloat16.
    """
    if workers < 1:
        raise InputError(f"the number of workers must be at least 1, not {workers}", parameter="workers")
    if backend not in BACKENDS:
        raise InputError(f"the backend must be {' or '.join(BACKENDS)}, not {backend!r}", parameter="backend")
    if backend == RAY:
        _register_ray()

    def compute(asked: Sequence[Asked]) -> Sequence[Sequence[Values]]:
        digest = hash_of_weights(folder)
        with joblib.parallel_config(backend=backend, n_jobs=workers):
            jobs = (joblib.delayed(_nats)(folder.resolve(), digest, bf16, one) for one in asked)
            found: Sequence[Sequence[Values]] = joblib.Parallel()(jobs)
        return found

    return None if workers == 1 else compute


def _nats(folder: Path, digest: str, bf16: bool, asked: Asked) -> Sequence[Values]:
    codes, groups = asked
    return _loss(folder, digest, bf16).nats(codes, groups)


@lru_cache(maxsize=1)
def _loss(folder: Path, digest: str, bf16: bool) -> CompletionLoss:
    """Loss of a training; a process that is used again loads weights with another digest again."""
    adaptation, super_adapter = reload_adaptation(folder)
    super_adapter.bf16 = bf16
    return CompletionLoss(super_adapter, adaptation.examples.validation)


def _register_ray() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # as telemetry of ONNX Runtime: nobody is told
    check_installed("ray")
    from ray.util.joblib import register_ray

    register_ray()  # type: ignore[no-untyped-call, unused-ignore]
