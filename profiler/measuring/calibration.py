"""Seconds of a reference that latencies are scaled by: those known from an earlier session, or those of the present."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adaptare.profiler.store.measurement import Measurement

# A reference further off its calibration is not the device that was calibrated.
CALIBRATION_HOLDS = 0.05
# Share of the rounds at either end that are no speed of their own.
OUTLIERS = 0.1


def calibrated(group: Sequence[Measurement], known_s: float | None) -> list[Measurement]:
    """Measurements of one group on the scale of their device's calibration.

    A calibration holds while the reference takes what it took then, within 5 %. Beyond that the group calibrates the
    device anew, unless the old speed is among those of this group: nobody knows then which one is the usual, so the old
    calibration stays, and `Measurement.slowdown` tells how far off the group is.

    Args:
        group: Of one device and reference, measured in the same rounds.
        known_s: The calibration before; `None` where there is none, or none is wanted.
    """
    first = next((each for each in group if each.complete and each.visits), None)
    if first is None:  # calibrates nothing, and stays as it is
        return list(group)
    seconds = [visit.median_s for visit in first.reference_visits]
    own_s = first.reference_raw_s
    if known_s is not None:
        near = abs(own_s / known_s - 1) <= CALIBRATION_HOLDS
        slowest, fastest = np.quantile(seconds, [1 - OUTLIERS, OUTLIERS])
        own_s = known_s if near or fastest <= known_s <= slowest else own_s
    return [replace(each, reference_s=own_s) for each in group]
