"""Quantities as people read them."""

from collections.abc import Callable
from typing import Final

COMPOSED: Final = ", composed from stubs"


def milliseconds(seconds: float) -> str:
    """Three significant digits, and whole numbers from 1,000 on."""
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:,.0f}"


def energy(joules: float) -> str:
    """Three significant digits, and whole numbers from 1,000 on."""
    if joules < 1:
        return f"{joules * 1e3:.3g} mJ"
    return f"{joules:.3g} J" if joules < 1000 else f"{joules:,.0f} J"


def per_second(rate: float) -> str:
    """Three significant digits, and whole numbers from 1,000 on."""
    return f"{rate:.3g}" if rate < 1000 else f"{rate:,.0f}"


def megabytes(count: float) -> str:
    """A number of bytes, with one decimal below 100 MB."""
    return f"{count / 1e6:.1f}" if count < 100e6 else f"{count / 1e6:,.0f}"


def percent(share: float) -> str:
    """With sign and one decimal."""
    return f"{share:+.1%}"


def counted(count: int, noun: str) -> str:
    """The number and its noun, in the plural unless it is one."""
    return f"{count} {noun}{'s' * (count != 1)}"


def between(lower: float, upper: float, text: Callable[[float], str], *, within_one_opening: bool = False) -> str:
    """An interval, and its caveat if it says nothing about the next loading of the program."""
    return f"[{text(lower)}, {text(upper)}]{' within one opening' * within_one_opening}"
