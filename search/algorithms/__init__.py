"""Search algorithms: NSGA-II, random search, hill climbing; screening, budget repair and baselines."""

from adaptare.search.algorithms.algorithm import algorithm_named, may_be_screened
from adaptare.search.algorithms.allocation import SumOfSites, allocations
from adaptare.search.algorithms.baselines import baselines, midpoint, uniform_cuts
from adaptare.search.algorithms.budget_repair import BudgetRepair
from adaptare.search.algorithms.greedy import greedy_point

__all__ = ["BudgetRepair", "SumOfSites", "algorithm_named", "allocations", "baselines", "greedy_point"]
__all__ += ["may_be_screened", "midpoint", "uniform_cuts"]
