"""Search algorithms: NSGA-II, random search, hill climbing; screening, budget repair and baselines."""
