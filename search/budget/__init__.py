"""Objectives and limits of a search, its evaluated candidates and their front."""

from adaptare.search.budget.candidate import Candidate, candidates_of, feasible
from adaptare.search.budget.front import front_of, parts_of
from adaptare.search.budget.limits import Budget, check_predictor, covering, predicted_limit
from adaptare.search.budget.objective import joined

__all__ = ["Budget", "Candidate", "candidates_of", "check_predictor", "covering", "feasible", "front_of"]
__all__ += ["joined", "parts_of", "predicted_limit"]
