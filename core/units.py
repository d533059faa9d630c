"""Formatting of quantities for display."""

from collections.abc import Callable, Mapping
from typing import Final

COMPOSED: Final = ", composed from stubs"


def milliseconds(seconds: float) -> str:
    """Milliseconds with three significant digits, and as whole numbers from 1,000 on."""
    return f"{seconds * 1e3:#.3g}".removesuffix(".") if seconds < 0.9995 else f"{seconds * 1e3:,.0f}"


def energy(joules: float) -> str:
    """Joules with three significant digits, and as whole numbers from 1,000 on."""
    if joules < 0.9995:
        return f"{joules * 1e3:.3g} mJ"
    return f"{joules:.3g} J" if joules < 999.5 else f"{joules:,.0f} J"


def megabytes(count: float) -> str:
    """Bytes in MB, with one decimal below 100 MB."""
    return f"{count / 1e6:.1f}" if count < 100e6 else f"{count / 1e6:,.0f}"


# SI unit -> unit in tables, and the text of a value in it.
_DISPLAYED: Final[Mapping[str, tuple[str, Callable[[float], str]]]] = {
    "s": ("ms", milliseconds),
    "B": ("MB", megabytes),
    "J": ("mJ", milliseconds),
    "W": ("W", lambda watts: f"{watts:.3g}"),
}


def displayed(unit: str) -> tuple[str, Callable[[float], str]]:
    """Unit in tables for an SI unit, and the text of a value in it."""
    return _DISPLAYED.get(unit, (unit, lambda value: f"{value:.4g}"))


def per_second(rate: float) -> str:
    """Rate with three significant digits, and as a whole number from 1,000 on."""
    return f"{rate:.3g}" if rate < 999.5 else f"{rate:,.0f}"


def percent(share: float) -> str:
    """Percentage with sign and one decimal; zero is positive."""
    return f"{share:+z.1%}"


def counted(count: int, noun: str) -> str:
    """Number and noun, in the plural unless the number is one."""
    return f"{count} {noun}{'s' * (count != 1)}"
