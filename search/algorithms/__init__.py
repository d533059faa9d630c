"""Search algorithms: staged shrinking, NSGA-II, random search and hill climbing; repair and baselines."""

from adaptare.search.algorithms.algorithm import STAGED, algorithm_named
from adaptare.search.algorithms.baselines import baselines, midpoint, uniform_cuts
from adaptare.search.algorithms.budget_repair import smallest_that_fits
from adaptare.search.algorithms.module_sets import in_all_layers, module_sets
from adaptare.search.algorithms.staged_shrinking import filled, lowered, staged, stages_to
from adaptare.search.algorithms.starts import by_estimate, fitting_cuts, portfolio

__all__ = ["STAGED", "algorithm_named", "baselines", "by_estimate", "filled", "fitting_cuts"]
__all__ += ["in_all_layers", "lowered", "midpoint", "module_sets", "portfolio", "smallest_that_fits"]
__all__ += ["staged", "stages_to", "uniform_cuts"]
