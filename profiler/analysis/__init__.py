"""Statistics of timings: confidence intervals, warm-up, alarms of drift, endurance, verdicts."""

from adaptare.profiler.analysis.alarms import CHANGE, changes
from adaptare.profiler.analysis.endurance import Endurance
from adaptare.profiler.analysis.intervals import LEVEL, Interval, openings_needed
from adaptare.profiler.analysis.verdict import EQUIVALENCE_BAND, Verdict, verdict

__all__ = ["CHANGE", "EQUIVALENCE_BAND", "LEVEL", "Endurance", "Interval", "Verdict"]
__all__ += ["changes", "openings_needed", "verdict"]
