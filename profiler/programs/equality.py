"""Output checks: programs of the same function must give the same outputs before they are timed."""

import math
from collections.abc import Sequence

import numpy as np

from adaptare.core import ProgramError
from adaptare.profiler.workloads.workload import Workload

# Largest difference relative to the largest reference value (at least 1) of programs that round nothing.
TOLERANCE = 1e-4
# Minimum change of the outputs by an adapter. Graphs without an effective adapter may still differ by this much, as
# the runtime optimises them differently; they do not differ at all if it runs operator by operator.
APPLIED = {"float32": 1e-6, "bfloat16": 0.0, "float16": 0.0}
# The merged reference of a quantised base, or of one in 16 bits, has the same weights but computes in 32 bits. That
# error is measured on the base without adapter; with one it was at most a third larger with random weights, while an
# adapter of twice the size exceeds this. With trained weights of 4 bits an adapter may multiply the error further; what
# exceeds the bound there is compared again without rounded activations, where a wrong adapter differs by far more.
ALLOWED_NOISE = 3


def needs_merged_reference(workload: Workload) -> bool:
    """True if the outputs must equal those of the merged reference: requantising changes the function."""
    return bool(_kinds(workload)) and workload.mode != "requantised"


def changes_outputs(workload: Workload) -> bool:
    """True if an adapter must change the outputs: a softmax over one key is 1, for any query and key."""
    unseen = {"q_proj", "k_proj"} if workload.positions == 1 else set[str]()
    return bool(_kinds(workload) - unseen)


def rounds_activations(workload: Workload) -> bool:
    """True if the merged reference computes in a higher precision, so that even the base differs from it."""
    return workload.quantisation != "none" or workload.dtype != "float32"


def _kinds(workload: Workload) -> set[str]:
    ranks = workload.configuration.by_path
    return {site.kind for site in workload.scope_sites if ranks.get(site.path, 0)}


def check_applied(workload: Workload, outputs: Sequence[float], base: Sequence[float]) -> None:
    """Raises `ProgramError` if an adapter does not change the outputs of the base."""
    if outputs and base and largest_difference(outputs, base) <= APPLIED[workload.dtype]:
        raise ProgramError("the adapter does not change the output; it is not applied, so it is not timed")


def check_against_merged(
    workload: Workload,
    outputs: Sequence[float],
    expected: Sequence[float],
    *,
    bases: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> None:
    """Compares outputs with those of the merged reference.

    Args:
        workload: The workload that was run.
        outputs: Its outputs.
        expected: Outputs of the merged reference.
        bases: Outputs of the base and of its merged reference, both without adapter, if activations are rounded.

    Raises:
        ProgramError: The difference exceeds the tolerance for rounding.
    """
    noise = largest_difference(*bases) if all(bases) else 0.0
    tolerance = TOLERANCE + ALLOWED_NOISE * (noise if math.isfinite(noise) else 0.0)
    difference = largest_difference(outputs, expected) if len(outputs) or len(expected) else 0.0
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
