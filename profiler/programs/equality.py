"""Whether programs that mean the same function give the same outputs; nothing is timed before they do."""

from collections.abc import Sequence

import numpy as np

from adaptare.devices import ProgramError
from adaptare.profiler.workloads.workload import Workload

# Largest difference over the largest reference value (at least 1).
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}
# What an adapter changes at least: without it a program computes the same by the same kernels, which differs as graphs
# do that the runtime optimised differently, and not at all where it runs operator by operator.
APPLIED = {"float32": 1e-6, "bfloat16": 0.0, "float16": 0.0}
# The twin of a quantised base has the same weights but does not round activations. How much that makes is seen at the
# base itself, without adapter; with one it was at most a third more, while an adapter of twice the size is far beyond.
ALLOWED_NOISE = 3


def needs_twin(workload: Workload) -> bool:
    """Whether a workload means the same as one with its adapter merged: quantising again means something else."""
    return adapted(workload) and workload.mode != "requantised"


def adapted(workload: Workload) -> bool:
    """Whether an adapter lies on a linear that runs."""
    return bool(_kinds(workload))


def changes_outputs(workload: Workload) -> bool:
    """Whether an adapter must be seen in the outputs: a softmax over one key is 1, whatever query and key are."""
    keys = workload.past + 1 if workload.phase == "decode" else workload.tokens
    unseen = {"q_proj", "k_proj"} if keys == 1 and workload.scope != "layer" else set[str]()
    return bool(_kinds(workload) - unseen)


def _kinds(workload: Workload) -> set[str]:
    ranks = workload.configuration.by_path
    return {site.kind for site in workload.scope_sites if ranks.get(site.path, 0)}


def check_applied(workload: Workload, outputs: Sequence[float], base: Sequence[float]) -> None:
    """Raises `ProgramError` if an adapter leaves the outputs of the base as they are."""
    if outputs and base and largest_difference(outputs, base) <= APPLIED[workload.dtype]:
        raise ProgramError("the adapter does not change the output; it is not applied, so it is not timed")


def check_twin(workload: Workload, outputs: Sequence[float], twin: Sequence[float], *, noise: float = 0.0) -> None:
    """Compares with the same adapter folded into the weights.

    Args:
        workload: What was run.
        outputs: What it gave.
        twin: What the twin gave.
        noise: By how much base and twin differ without adapter.

    Raises:
        ProgramError: They differ by more than rounding explains.
    """
    tolerance = TOLERANCE[workload.dtype] + ALLOWED_NOISE * noise
    difference = largest_difference(outputs, twin) if outputs else 0.0
    if not difference <= tolerance:
        raise ProgramError(
            f"{workload.mode} and merged outputs differ by {difference:.2g} (allowed: {tolerance:.2g}); not timed"
        )


def largest_difference(outputs: Sequence[float], expected: Sequence[float]) -> float:
    """Largest absolute difference, relative to the largest expected value where that exceeds 1."""
    if len(outputs) != len(expected):
        return float("inf")
    ours, theirs = np.asarray(outputs), np.asarray(expected)
    return float(np.max(np.abs(ours - theirs)) / max(1.0, float(np.max(np.abs(theirs)))))
