"""Figures of profiling.py: a value, the number of cases behind it, and the goal it is held to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy import stats


@dataclass(frozen=True)
class Figure:
    """A value and the number of cases that it sums up; every case that was tried is one of them."""

    value: Any
    cases: int


Figures = dict[str, Figure]


@dataclass(frozen=True)
class Goal:
    """A condition on a figure.

    Args:
        text: For people.
        met: True of a figure that meets it.
    """

    text: str
    met: Callable[[Figure], bool]


def at_most(limit: float) -> Goal:
    return Goal(f"<= {limit:g}", lambda figure: figure.value <= limit)


def at_least(limit: float) -> Goal:
    return Goal(f">= {limit:g}", lambda figure: figure.value >= limit)


def share_like(share: float) -> Goal:
    """A share of cases that chance alone would not often make so different from a nominal one."""

    def met(figure: Figure) -> bool:
        count = round(figure.value * figure.cases)
        return bool(stats.binomtest(count, figure.cases, share).pvalue >= 0.01)

    return Goal(f"{share:g} but for chance (p >= 0.01)", met)
