"""Budgets in user notation: `decode=20ms`, `decode=-15%`, `overhead=5%`, `p90(prefill@128)=80ms`, `memory=200MB`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite
from typing import Final

from adaptare.core import InputError
from adaptare.predictor import FittedPredictor
from adaptare.profiler import ModelShape, Quantisation
from adaptare.profiler.measuring import unit_of, units
from adaptare.profiler.store import LATENCY, P90
from adaptare.profiler.workloads import Dimension
from adaptare.search.budget.objective import Limit, PredictedUpperEnd

EXAMPLES: Final = "decode=20ms, prefill@128=80ms, overhead=5%, decode=-15%, p90(decode)=25ms, energy=5mJ"
PHASES: Final = ("prefill", "decode")
OVERHEAD: Final = "overhead"
# Decimal, so that 20 ms is the double nearest to 0.02.
_UNITS: Final[Mapping[str, Mapping[str, Decimal]]] = {
    "s": {"s": Decimal(1), "ms": Decimal("1e-3"), "us": Decimal("1e-6")},
    "B": {unit: Decimal(1000**power) for power, unit in enumerate(("B", "kB", "MB", "GB"))}
    | {unit: Decimal(1024**power) for power, unit in enumerate(("KiB", "MiB", "GiB"), start=1)},
    "J": {"J": Decimal(1), "mJ": Decimal("1e-3"), "uJ": Decimal("1e-6")},
    "W": {"W": Decimal(1), "mW": Decimal("1e-3")},
}
_SHARE: Final = {"%": Decimal("1e-2")}
_VALUE = re.compile(r"(?P<sign>[+-]?)(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[A-Za-z%]*)")


@dataclass(frozen=True)
class Budget:
    """Upper limit on a cost of a configuration on its device.

    Args:
        name: `prefill` or `decode`, the latency of a phase; `overhead`, of either over the base; or a stored quantity.
        length: Tokens of prefill or cached positions of decode; None: those of the current workload.
        limit: In the SI unit of the quantity, or a ratio: 0.05 for 5 % more than the base, -0.15 for 15 % less.
        spelling: The budget as written.
        relative: True if the limit is a ratio.
        p90: True if the 90th percentile of calls is limited, not their typical latency.
        predictor: Name of the predictor's file, without suffix; empty for any.
    """

    name: str
    length: int | None
    limit: float
    spelling: str
    relative: bool = False
    p90: bool = False
    predictor: str = ""

    def __str__(self) -> str:
        return self.spelling

    @property
    def quantity(self) -> str:
        """Name of the measured and predicted quantity."""
        latency = P90 if self.p90 else LATENCY
        return latency if self.name in (*PHASES, OVERHEAD) else self.name

    @property
    def unit(self) -> str:
        """SI unit of the quantity."""
        return unit_of(self.quantity)

    def bound(self, base: float) -> float:
        """Largest allowed value, in the SI unit of the quantity; `base` is that of the base without adapter."""
        return base * (1 + self.limit) if self.relative else self.limit

    def to_json(self) -> str:
        """The budget as written."""
        return self.spelling

    @classmethod
    def from_json(cls, content: str) -> "Budget":
        """Inverse of `to_json`."""
        return read_budget(content, named=True)


def read_budget(text: str, *, named: bool = False) -> Budget:
    """Budget parsed from `QUANTITY[@LENGTH]=VALUE UNIT`, or `p90(PHASE[@LENGTH])=VALUE UNIT`.

    A VALUE with a sign and per cent is relative to the base: `decode=-15%` is 15 % less.

    Args:
        text: The budget.
        named: True to allow the name of a predictor before it: `phone:decode=20ms`.

    Raises:
        InputError: The text is not a budget.
    """
    spelling = text.strip()
    predictor, colon, rest = (part.strip() for part in spelling.rpartition(":"))
    subject, equals, value = (part.strip() for part in rest.partition("="))
    if not equals:
        raise _refused(spelling, "must read QUANTITY=VALUE")
    if "(" in predictor:
        raise _refused(spelling, "must have the name of a predictor before p90: NAME:p90(decode)=25ms")
    if colon and not predictor:
        raise _refused(spelling, "must have the name of a predictor before the colon, or no colon")
    if colon and not named:
        raise _refused(spelling, "names a predictor, which only a search of given predictors takes; leave the name out")
    percentile = re.fullmatch(r"(p[0-9.]+)\((.*)\)", subject)
    if percentile and percentile[1] != P90:
        raise _refused(spelling, f"takes the percentile {P90} only, such as p90(decode)=25ms")
    name, at, length = (part.strip() for part in (percentile[2] if percentile else subject).partition("@"))
    if percentile and name not in PHASES:
        raise _refused(spelling, f"takes a percentile of {' or '.join(PHASES)} only")
    latency = name in (*PHASES, OVERHEAD)
    stored = {quantity: unit for quantity, unit in units().items() if unit in _UNITS and quantity not in (LATENCY, P90)}
    if not latency and name not in stored:
        known = ", ".join((*PHASES, OVERHEAD, *stored))
        raise _refused(spelling, f"must limit one of {known}, not {name!r}")
    spellings = {OVERHEAD: _SHARE}.get(name) or {**_UNITS[stored.get(name, "s")], **_SHARE}
    return Budget(
        name=name,
        length=_length(length, name, spelling) if at else None,
        limit=_limit(value, name, spellings, spelling),
        spelling=spelling,
        relative=value.endswith("%"),
        p90=bool(percentile),
        predictor=predictor,
    )


def _length(digits: str, name: str, spelling: str) -> int:
    if name not in PHASES:
        raise _refused(spelling, "takes a length after @ for prefill and decode only")
    if not re.fullmatch(r"[0-9]{1,9}", digits) or int(digits) < (1 if name == "prefill" else 0):
        raise _refused(spelling, f"needs a whole number of tokens after @, not {digits!r}")
    return int(digits)


def _limit(value: str, name: str, units: Mapping[str, Decimal], spelling: str) -> float:
    match = _VALUE.fullmatch(value)
    if not match or match["unit"] not in units or (match["sign"] and match["unit"] != "%"):
        raise _refused(spelling, f"needs a number with one of the units {', '.join(units)}, not {value!r}")
    limit = float(Decimal(match["sign"] + match["number"]) * units[match["unit"]])
    if not isfinite(limit):
        raise _refused(spelling, f"needs a smaller number than {match['number'][:20]}…")
    if match["unit"] != "%":
        if limit <= 0:
            raise _refused(spelling, "must be above zero")
    elif limit <= -1:
        raise _refused(spelling, "must leave a part of the base's, such as -15%")
    elif not match["sign"] and name != OVERHEAD:
        raise _refused(spelling, "needs a sign to be relative to the base: -15% is 15 % less, +5% is 5 % more")
    return limit


def _refused(spelling: str, rule: str) -> InputError:
    return InputError(f"budget {spelling!r} {rule}; for example {EXAMPLES}")


def covering(budget: Budget, predictor: FittedPredictor) -> FittedPredictor:
    """The predictor at the length of the budget, of ratios if the budget is one.

    Raises `InputError` if the predictor does not cover the budget.
    """
    phase = predictor.template.phase
    if budget.quantity != predictor.quantity:
        raise InputError(
            f"budget {budget}: the predictor is of {predictor.quantity}; measure and fit {budget.quantity}, or give a "
            f"budget of {predictor.quantity}"
        )
    if budget.name in PHASES and budget.name != phase:
        raise InputError(f"budget {budget}: the predictor is of {phase}; profile and fit {budget.name}")
    try:
        predictor = predictor.relative if budget.relative else predictor
        return predictor if budget.length is None else predictor.at(budget.length)
    except InputError as error:
        raise InputError(f"budget {budget}: {error}; or write the budget without a length") from error


def predicted_limit(budget: Budget, predictor: FittedPredictor, dimensions: tuple[Dimension, ...]) -> Limit:
    """Limit on the upper end of the prediction. Raises `InputError` if the predictor does not cover the budget."""
    predictor = covering(budget, predictor)
    return Limit(PredictedUpperEnd(predictor, dimensions), budget.bound(predictor.base_value))


def check_predictor(predictor: FittedPredictor, shape: ModelShape, quantisation: Quantisation) -> None:
    """Raises `InputError` if a predictor is of another base model, or of one with other weights."""
    profiled, rounded = predictor.template.shape, predictor.template.quantisation
    if shape.sizes != profiled.sizes:
        raise InputError(
            f"the base model is a {shape.describe()}, and the predictor is of a {profiled.describe()}; profile and fit "
            "this model"
        )
    if rounded != quantisation:
        raise InputError(
            f"the predictor is of a base with quantisation {rounded}, and this one has {quantisation}; "
            f"train or shrink with quantisation {rounded}, or profile and fit the other base"
        )
