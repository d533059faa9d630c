"""Search algorithms: NSGA-II, random search, screening and budget repair."""
