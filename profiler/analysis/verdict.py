"""What an interval says about a difference."""

from typing import Literal

from adaptare.profiler.analysis.intervals import Interval

Verdict = Literal["faster", "slower", "same", "ambiguous"]

EQUIVALENCE_BAND = 0.01


def verdict(overhead: Interval, *, band: float = EQUIVALENCE_BAND) -> Verdict:
    """Four answers to "does it cost anything?".

    `same`: the whole interval lies within the band around zero, so any difference is too small to matter.
    `slower` and `faster`: the interval excludes zero, and does not lie within the band. Else `ambiguous`: measure on.

    Args:
        overhead: A relative difference; 0.05 is 5 % slower.
        band: Half-width of the equivalence band.
    """
    if -band <= overhead.lower and overhead.upper <= band:
        return "same"
    if overhead.lower > 0:
        return "slower"
    if overhead.upper < 0:
        return "faster"
    return "ambiguous"
