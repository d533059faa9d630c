"""Measurements, and the database that keeps them."""

from adaptare.profiler.store.calibration import CALIBRATION_HOLDS, calibrated
from adaptare.profiler.store.measurement import INTERRUPTED, LATENCY, Origin, overhead, pooled
from adaptare.profiler.store.samples import Samples

__all__ = ["CALIBRATION_HOLDS", "INTERRUPTED", "LATENCY", "Origin", "Samples", "calibrated", "overhead", "pooled"]
