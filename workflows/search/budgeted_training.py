"""Training of the configurations around a budget."""

from dataclasses import replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.predictor import load_predictor
from adaptare.profiler import ModelShape, Quantisation, Space
from adaptare.search import Limit, PredictedUpperEnd, read_budget
from adaptare.search.training.samplers import BudgetSampler
from adaptare.search.training.step import TrainingStep
from adaptare.workflows.search.latency_limit import check_predictor, limit_of
from adaptare.workflows.search.searching import check_feasible


def step_around(
    step: TrainingStep,
    space: Space,
    shape: ModelShape,
    quantisation: Quantisation,
    *,
    predictor: Path | None,
    budget: str | None,
) -> TrainingStep:
    """The step with draws around a budget; unchanged without predictor and budget.

    Args:
        shape: Shape of the base model.
        quantisation: Quantisation of the base that adapters are trained on.

    Raises:
        InputError: One is given without the other, cannot be read, or is of another base.
        InfeasibleBudgetError: No adapter of the space is predicted to meet the budget.
    """
    if predictor is None and budget is None:
        return step
    if predictor is None or budget is None:
        missing, given = ("--predictor", "--budget") if predictor is None else ("--budget", "--predictor")
        raise InputError(
            f"training around a budget needs --predictor and --budget; add {missing}, or leave out {given}"
        )
    fitted, within = load_predictor(predictor), read_budget(budget)
    check_predictor(fitted, shape, quantisation)
    check_feasible(within, fitted, space)
    limit = Limit(PredictedUpperEnd(fitted, space.columns), limit_of(within, fitted))
    return replace(step, sampler=BudgetSampler(limit))
