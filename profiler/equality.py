"""Whether programs that mean the same function give the same outputs; nothing is timed before they do."""

from collections.abc import Sequence

import numpy as np

from adaptare.devices import DeviceInfo, Loaded, ProgramError, Worker
from adaptare.profiler.programs import program_for
from adaptare.profiler.workload import Workload

# Largest difference over the largest reference value (at least 1).
TOLERANCE = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


def check_outputs(workload: Workload, loaded: Loaded, *, base: Loaded, worker: Worker, device: DeviceInfo) -> None:
    """Compares a candidate with its merged twin, which is loaded for that and unloaded again.

    Args:
        workload: The candidate.
        loaded: What the worker said when it loaded the candidate.
        base: What the worker said when it loaded the base.
        worker: Where both are loaded.
        device: Whose worker it is.

    Raises:
        ProgramError: The outputs differ from the twin's, or an adapter leaves those of the base unchanged.
    """
    feed = workload.phase
    outputs = loaded.outputs.get(feed, ())
    if not outputs or not any(site.path in workload.adapter.by_path for site in workload.scope_sites):
        return
    tolerance = TOLERANCE[workload.dtype]
    if base.outputs.get(feed) and largest_difference(outputs, base.outputs[feed]) <= tolerance:
        raise ProgramError("the adapter does not change the output; it is not applied, so it is not timed")
    if workload.mode == "merged":
        return
    merged = worker.load(program_for(workload.merged, device))
    worker.unload(merged.program_id)
    difference = largest_difference(outputs, merged.outputs[feed])
    if not difference <= tolerance:
        raise ProgramError(
            f"{workload.mode} and merged outputs differ by {difference:.2g} (allowed: {tolerance:g}); not timed"
        )


def largest_difference(outputs: Sequence[float], expected: Sequence[float]) -> float:
    """Largest absolute difference, relative to the largest expected value where that exceeds 1."""
    if len(outputs) != len(expected):
        return float("inf")
    ours, theirs = np.asarray(outputs), np.asarray(expected)
    return float(np.max(np.abs(ours - theirs)) / max(1.0, float(np.max(np.abs(theirs)))))
