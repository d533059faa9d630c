"""Classification of a difference by its confidence interval."""

from typing import Literal

from adaptare.profiler.analysis.intervals import Interval

Verdict = Literal["faster", "slower", "same", "ambiguous"]

EQUIVALENCE_BAND = 0.01


def verdict(overhead: Interval, *, band: float = EQUIVALENCE_BAND) -> Verdict:
    """Classifies an overhead.

    `same`: the whole interval lies within the band around zero, so any difference is negligible. `slower` and `faster`:
    the interval excludes zero, and is not within the band. Otherwise `ambiguous`: more samples are needed.

    Args:
        overhead: Relative difference; 0.05 is 5 % slower.
        band: Half-width of the equivalence band.
    """
    if -band <= overhead.lower and overhead.upper <= band:
        return "same"
    if overhead.lower > 0:
        return "slower"
    if overhead.upper < 0:
        return "faster"
    return "ambiguous"
