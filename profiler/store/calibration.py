"""Calibration of devices: seconds of the reference that turn ratios into latencies, derived from all measurements."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adaptare.profiler.store.measurement import Measurement

# A reference that deviates more than this from its calibration is treated as a changed device.
CALIBRATION_HOLDS = 0.05
# Share of the rounds at either end that is ignored as outliers.
OUTLIERS = 0.1


def calibrated(
    measurements: Sequence[Measurement], *, stored: Sequence[float] = (), known_s: float | None = None
) -> list[Measurement]:
    """Measurements on the scale of the newest calibration of their device, reference and origin.

    A calibration is kept while the reference latency stays within 5 % of it. Beyond that the session recalibrates the
    device, unless the calibrated speed occurs among its rounds: the usual speed is then ambiguous, so the old
    calibration is kept, and `Measurement.slowdown` gives the deviation of the session. A session that `recalibrates`
    does so in any case.

    Args:
        measurements: In the order of measuring. Incomplete ones calibrate nothing; without any calibration they are on
            their own scale.
        stored: Calibration that an earlier version stored with each of them; 0 for none.
        known_s: Calibration before the first of them.
    """
    scales: dict[object, float] = {}
    recalibrated = set[str]()
    for row, stored_s in itertools.zip_longest(measurements, stored):
        if row.complete and row.visits:
            first = row.recalibrates and row.session not in recalibrated
            before_s = None if first else scales.get(_key(row), known_s)
            recalibrated.add(row.session)
            scales[_key(row)] = stored_s or _calibration(row, before_s)
    return [
        replace(row, reference_s=scales.get(_key(row)) or known_s or (row.reference_raw_s if row.visits else 0.0))
        for row in measurements
    ]


def _key(row: Measurement) -> tuple[object, ...]:
    return row.device, row.reference, row.origin


def _calibration(row: Measurement, known_s: float | None) -> float:
    """Seconds of the reference after a measurement, given those before it."""
    own_s = row.reference_raw_s
    if known_s is None:
        return own_s
    seconds = [visit.median_s for visit in row.reference_visits]
    slowest, fastest = np.quantile(seconds, [1 - OUTLIERS, OUTLIERS])
    near = abs(own_s / known_s - 1) <= CALIBRATION_HOLDS
    return known_s if near or fastest <= known_s <= slowest else own_s
