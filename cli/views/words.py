"""Formatting that several views share."""

from collections.abc import Callable

from adaptare.core.units import between
from adaptare.profiler.analysis import Interval


def ends(interval: Interval, text: Callable[[float], str], *, within_one_opening: bool = False) -> str:
    """Both ends of an interval, with a caveat if it does not generalise to the next load of the program."""
    return between(interval.lower, interval.upper, text, within_one_opening=within_one_opening)
