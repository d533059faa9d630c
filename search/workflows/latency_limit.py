"""Latency limit that a budget sets for a predictor."""

from adaptare.devices import InputError
from adaptare.predictor import FittedPredictor
from adaptare.search.budget.limits import MEDIAN, Budget, latency_limit_s


def limit_of(budget: Budget, predictor: FittedPredictor) -> float:
    """Largest allowed latency, seconds. Raises `InputError` if the predictor does not cover the budget."""
    template = predictor.template
    if budget.percentile != MEDIAN:
        raise InputError(f"budget {budget}: a search predicts medians only; write it without the percentile")
    if budget.quantity in ("prefill", "decode") and budget.quantity != template.phase:
        raise InputError(f"budget {budget}: the predictor is of {template.phase}; profile and fit {budget.quantity}")
    if budget.length not in (None, template.length):
        raise InputError(f"budget {budget}: the predictor is of length {template.length}, not {budget.length}")
    return latency_limit_s(budget, base_s=predictor.reference_s)
