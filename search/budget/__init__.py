"""Budgets, objectives, candidates and Pareto fronts."""
