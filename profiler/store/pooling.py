"""Pooling of the measurements of one workload from several sessions."""

from collections.abc import Sequence
from dataclasses import replace

from adaptare.devices import InputError
from adaptare.profiler.store.measurement import Measurement, Visit


def pooled(earlier: Measurement, later: Measurement) -> Measurement:
    """One measurement with the openings (program loads) and rounds of both, and all other fields of the later one.

    Raises:
        InputError: Workload, device or reference differ.
    """
    for name in ("workload", "device", "reference"):
        if getattr(earlier, name) != getattr(later, name):
            raise InputError(f"measurements are pooled only where they have the same {name}; measure it again instead")
    openings = 1 + max((visit.opening for visit in earlier.visits), default=-1)
    rounds = 1 + max((visit.round for visit in earlier.visits), default=-1)

    def numbered_on(visits: Sequence[Visit]) -> tuple[Visit, ...]:
        return tuple(replace(visit, opening=visit.opening + openings, round=visit.round + rounds) for visit in visits)

    return replace(
        later,
        visits=(*earlier.visits, *numbered_on(later.visits)),
        reference_visits=(*earlier.reference_visits, *numbered_on(later.reference_visits)),
        warmup_s=(*earlier.warmup_s, *later.warmup_s),
    )
