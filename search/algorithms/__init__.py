"""Search algorithms: NSGA-II, random search, hill climbing; screening, budget repair and baselines."""

from adaptare.search.algorithms.algorithm import algorithm_named, may_be_screened
from adaptare.search.algorithms.allocation import SumOfSites, allocations
from adaptare.search.algorithms.baselines import baselines, midpoint, uniform_cuts
from adaptare.search.algorithms.budget_repair import smallest_that_fits
from adaptare.search.algorithms.greedy import greedy_point

__all__ = ["SumOfSites", "algorithm_named", "allocations", "baselines", "greedy_point", "may_be_screened"]
__all__ += ["midpoint", "smallest_that_fits", "uniform_cuts"]
