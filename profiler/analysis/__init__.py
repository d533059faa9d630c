"""Statistics of timings: confidence intervals, warm-up, alarms of drift, endurance, verdicts."""

from adaptare.profiler.analysis.alarms import CHANGE, Endurance, changes
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

__all__ = ["CHANGE", "EQUIVALENCE_BAND", "LEAST_OPENINGS", "LEVEL", "Endurance", "Interval", "Levels", "Verdict"]
__all__ += ["changes", "look_errors", "openings_needed", "too_few", "verdict"]
