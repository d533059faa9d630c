"""Budgets in user notation: `decode=20ms`, `decode=-15%`, `overhead=5%`, `p90(prefill@128)=80ms`, `memory=200MB`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from adaptare.core import InputError

Quantity = Literal["prefill", "decode", "overhead", "memory"]
MEDIAN = 50.0
EXAMPLES = "decode=20ms, prefill@128=80ms, overhead=5%, decode=-15%"
# Decimal, so that 20 ms is the double nearest to 0.02.
_SECONDS = {"s": Decimal(1), "ms": Decimal("1e-3"), "us": Decimal("1e-6")}
_SHARE = {"%": Decimal("1e-2")}
_BYTES = {unit: Decimal(1000**power) for power, unit in enumerate(("B", "kB", "MB", "GB"))}
_BINARY_BYTES = {unit: Decimal(1024**power) for power, unit in enumerate(("KiB", "MiB", "GiB"), start=1)}
_UNITS: Mapping[Quantity, Mapping[str, Decimal]] = {
    "prefill": _SECONDS | _SHARE,
    "decode": _SECONDS | _SHARE,
    "overhead": _SHARE,
    "memory": _BYTES | _BINARY_BYTES,
}
_SUBJECT = re.compile(r"p(?P<percentile>[0-9]+(?:\.[0-9]+)?)\((?P<inner>[^()]*)\)|(?P<outer>[^()]*)")
_VALUE = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[A-Za-z%]*)")


@dataclass(frozen=True)
class Budget:
    """Upper limit on a cost of a configuration on its device.

    Args:
        quantity: Latency of `prefill` or `decode`, `overhead` of either over the base, or `memory`.
        percentile: Percentile of the latency; the median unless written as `p90(...)`.
        length: Tokens of prefill or cached positions of decode; None: those of the current workload.
        limit: Seconds, ratio (0.05 for 5 % more than the base, -0.15 for 15 % less) or bytes.
        spelling: The budget as written.
        relative: True if the limit is a ratio.
    """

    quantity: Quantity
    percentile: float
    length: int | None
    limit: float
    spelling: str
    relative: bool = False

    def __str__(self) -> str:
        return self.spelling


def read_budget(text: str) -> Budget:
    """Budget parsed from `QUANTITY[@LENGTH]=VALUE UNIT`, where QUANTITY may be wrapped in `p90(...)`.

    A VALUE with a sign and per cent is relative to the base: `decode=-15%` is 15 % less.

    Raises:
        InputError: The text is not a budget.
    """
    spelling = text.strip()
    subject, equals, value = (part.strip() for part in spelling.partition("="))
    match = _SUBJECT.fullmatch(subject)
    if not equals or not match:
        raise _refused(spelling, "must read QUANTITY=VALUE")
    quantity, at, length = (part.strip() for part in (match["inner"] or match["outer"] or "").partition("@"))
    for known in get_args(Quantity):
        if quantity == known:
            return Budget(
                quantity=known,
                percentile=_percentile(match["percentile"], known, spelling),
                length=_length(length, known, spelling) if at else None,
                limit=_limit(value, known, spelling),
                spelling=spelling,
                relative=value.endswith("%"),
            )
    raise _refused(spelling, f"must limit one of {', '.join(get_args(Quantity))}, not {quantity!r}")


def latency_limit_s(budget: Budget, *, base_s: float) -> float:
    """Largest latency under a budget, seconds.

    Args:
        budget: Budget of prefill, decode or overhead.
        base_s: `latency_s` of the base without adapter on the same device, for a relative limit.

    Raises:
        InputError: The budget limits memory.
    """
    if budget.quantity == "memory":
        raise InputError(
            f"budget {budget}: memory is not supported for search yet; search under a latency budget "
            f"such as decode=20ms; adaptare predict reports the memory of every adapter"
        )
    if budget.relative:
        return base_s * (1 + budget.limit)
    return budget.limit


def _percentile(digits: str | None, quantity: Quantity, spelling: str) -> float:
    if digits is None:
        return MEDIAN
    if quantity == "memory":
        raise _refused(spelling, "takes a percentile for prefill, decode and overhead only")
    if not 0 < float(digits) < 100:
        raise _refused(spelling, f"needs a percentile between 0 and 100, not {digits}")
    return float(digits)


def _length(digits: str, quantity: Quantity, spelling: str) -> int:
    if quantity not in ("prefill", "decode"):
        raise _refused(spelling, "takes a length after @ for prefill and decode only")
    if not re.fullmatch(r"[0-9]+", digits) or int(digits) < (1 if quantity == "prefill" else 0):
        raise _refused(spelling, f"needs a whole number of tokens after @, not {digits!r}")
    return int(digits)


def _limit(value: str, quantity: Quantity, spelling: str) -> float:
    units = _UNITS[quantity]
    match = _VALUE.fullmatch(value)
    if not match or match["unit"] not in units or (match["sign"] and match["unit"] != "%"):
        raise _refused(spelling, f"needs a number with one of the units {', '.join(units)}, not {value!r}")
    limit = float(Decimal(match["sign"] + match["number"]) * units[match["unit"]])
    if match["unit"] != "%":
        if limit <= 0:
            raise _refused(spelling, "must be above zero")
    elif limit <= -1:
        raise _refused(spelling, "must leave a part of the base's latency, such as -15%")
    elif not match["sign"] and quantity != "overhead":
        raise _refused(spelling, "needs a sign to be relative to the base: -15% is 15 % less, +5% is 5 % more")
    return limit


def _refused(spelling: str, rule: str) -> InputError:
    return InputError(f"budget {spelling!r} {rule}; for example {EXAMPLES}")
