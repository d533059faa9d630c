"""Scores by which a choice of a multiple-choice question is the answer."""

from typing import Final, Literal, get_args

Scoring = Literal["sum", "per-character"]
SCORINGS: Final[tuple[Scoring, ...]] = get_args(Scoring)
