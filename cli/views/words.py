"""Formatting that several views share."""

from collections.abc import Callable

from adaptare.core.units import between
from adaptare.profiler.analysis import Interval


def ends(interval: Interval, text: Callable[[float], str], *, too_few_openings: int = 0) -> str:
    """Both ends of an interval; see `between`."""
    return between(interval.lower, interval.upper, text, too_few_openings=too_few_openings)
