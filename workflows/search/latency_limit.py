"""Latency limit that a budget sets for a predictor, and the base that the predictor is for."""

from adaptare.core import InputError
from adaptare.predictor import FittedPredictor
from adaptare.profiler import ModelShape, Quantisation
from adaptare.search.budget.limits import MEDIAN, Budget, latency_limit_s


def limit_of(budget: Budget, predictor: FittedPredictor) -> float:
    """Largest allowed latency, seconds. Raises `InputError` if the predictor does not cover the budget."""
    template = predictor.template
    if budget.percentile != MEDIAN:
        raise InputError(f"budget {budget}: a search predicts medians only; write it without the percentile")
    if budget.quantity in ("prefill", "decode") and budget.quantity != template.phase:
        raise InputError(f"budget {budget}: the predictor is of {template.phase}; profile and fit {budget.quantity}")
    if budget.length not in (None, template.length):
        raise InputError(
            f"budget {budget}: the predictor is of length {template.length}, not {budget.length}; write the "
            "budget without a length, or profile and fit that length"
        )
    return latency_limit_s(budget, base_s=predictor.base_value)


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
            f"train or shrink with --quantise {rounded}, or profile and fit the other base"
        )
