"""Training of the configurations around a budget."""

from dataclasses import replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.predictor import load_predictor
from adaptare.profiler import ModelShape, Quantisation, Space
from adaptare.search.budget.limits import Budget, check_predictor, predicted_limit
from adaptare.search.training.samplers import BudgetSampler
from adaptare.search.training.step import TrainingStep
from adaptare.workflows.search.problem import check_feasible


def step_around(
    step: TrainingStep,
    space: Space,
    shape: ModelShape,
    quantisation: Quantisation,
    *,
    predictor: Path | None,
    budget: Budget | None,
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
        missing, given = ("predictor", "budget") if predictor is None else ("budget", "predictor")
        raise InputError(
            f"training around a budget needs a predictor and a budget; add the {missing}, or leave out the {given}"
        )
    fitted = load_predictor(predictor)
    check_predictor(fitted, shape, quantisation)
    check_feasible(budget, fitted, space)
    return replace(step, sampler=BudgetSampler(predicted_limit(budget, fitted, space.dimensions)))
