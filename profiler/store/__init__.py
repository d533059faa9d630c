"""Measurements, and the database that keeps them."""

from typing import TYPE_CHECKING

from adaptare.core.lazy_names import lazy_names
from adaptare.profiler.store.calibration import CALIBRATION_HOLDS, calibrated
from adaptare.profiler.store.measurement import INTERRUPTED, LATENCY, P90, Origin, overhead, pooled
from adaptare.profiler.store.samples import Samples

if TYPE_CHECKING:
    from adaptare.profiler.store.database import ForeignDatabaseError, url_of
    from adaptare.profiler.store.salvaging import Salvage, salvage

__all__ = ["CALIBRATION_HOLDS", "INTERRUPTED", "LATENCY", "P90", "ForeignDatabaseError", "Origin", "Salvage"]
__all__ += ["Samples", "calibrated", "overhead", "pooled", "salvage", "url_of"]

__getattr__ = lazy_names(__name__)
