"""Statistics of timings: confidence intervals, warm-up, changes of speed, endurance, verdicts."""

from adaptare.profiler.analysis.device_speed import Endurance
from adaptare.profiler.analysis.intervals import (
    EQUIVALENCE_BAND,
    LEAST_OPENINGS,
    LEVEL,
    Interval,
    Verdict,
    openings_needed,
    too_few,
    verdict,
)
from adaptare.profiler.analysis.levels import Levels
from adaptare.profiler.analysis.looks import look_errors
from adaptare.profiler.analysis.warmup import CHANGE, speed_changes

__all__ = ["CHANGE", "EQUIVALENCE_BAND", "LEAST_OPENINGS", "LEVEL", "Endurance", "Interval", "Levels", "Verdict"]
__all__ += ["look_errors", "openings_needed", "speed_changes", "too_few", "verdict"]
