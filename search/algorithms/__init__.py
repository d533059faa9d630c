"""Search algorithms: staged shrinking, NSGA-II, random search and hill climbing; screens, repair and baselines."""

from adaptare.search.algorithms.algorithm import STAGED, algorithm_named, may_be_screened
from adaptare.search.algorithms.allocation import SumOfSites, allocations
from adaptare.search.algorithms.baselines import baselines, midpoint, uniform_cuts
from adaptare.search.algorithms.budget_repair import smallest_that_fits
from adaptare.search.algorithms.staged_shrinking import LossChanges, filled, lowered, staged
from adaptare.search.algorithms.starts import by_estimate, portfolio

__all__ = ["STAGED", "LossChanges", "SumOfSites", "algorithm_named", "allocations", "baselines", "by_estimate"]
__all__ += ["filled", "lowered", "may_be_screened", "midpoint", "portfolio", "smallest_that_fits", "staged"]
__all__ += ["uniform_cuts"]
