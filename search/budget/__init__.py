"""Objectives and limits of a search, its evaluated candidates and their front."""

from adaptare.search.budget.candidate import Candidate
from adaptare.search.budget.front import front_of
from adaptare.search.budget.limits import Budget, check_predictor, covering, predicted_limit

__all__ = ["Budget", "Candidate", "check_predictor", "covering", "front_of", "predicted_limit"]
