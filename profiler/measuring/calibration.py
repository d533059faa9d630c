"""Reference seconds that scale latencies: from an earlier session's calibration, or from the present session."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adaptare.profiler.store.measurement import Measurement

# A reference that deviates more than this from its calibration is treated as a changed device.
CALIBRATION_HOLDS = 0.05
# Share of the rounds at either end that is ignored as outliers.
OUTLIERS = 0.1


def calibrated(group: Sequence[Measurement], known_s: float | None) -> list[Measurement]:
    """Measurements of one group on the scale of their device's calibration.

    A calibration is kept while the reference latency stays within 5 % of it. Beyond that the group recalibrates the
    device, unless the calibrated speed occurs within this group: the usual speed is then ambiguous, so the old
    calibration is kept, and `Measurement.slowdown` gives the deviation of the group.

    Args:
        group: Measurements of one device and reference, from the same rounds.
        known_s: The previous calibration, seconds; `None` if there is none or it is to be ignored.
    """
    first = next((row for row in group if row.complete and row.visits), None)
    if first is None:  # no complete measurement: nothing to calibrate with
        return list(group)
    seconds = [visit.median_s for visit in first.reference_visits]
    own_s = first.reference_raw_s
    if known_s is not None:
        near = abs(own_s / known_s - 1) <= CALIBRATION_HOLDS
        slowest, fastest = np.quantile(seconds, [1 - OUTLIERS, OUTLIERS])
        own_s = known_s if near or fastest <= known_s <= slowest else own_s
    return [replace(row, reference_s=own_s) for row in group]
