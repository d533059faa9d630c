"""Costs and gains of a winner's adapters, where they are unknown."""

from typing import Any, cast

import pytest

from adaptare.core.progress import SILENT
from adaptare.profiler import Configuration, Mode, ModelShape, Space
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads.space_file import named_space
from adaptare.search import read_budget
from adaptare.search.algorithms import baselines
from adaptare.workflows.search.contributions import with_contributions
from adaptare.workflows.search.problem import Problem
from adaptare.workflows.search.result import Choice, Place, SearchResult

SHAPE = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")
PLACE = Place("tiny-random", "simulated", "none", "float32", "decode", 64)
BLOCKS = named_space("blocks", SHAPE, ranks=(0, 4, 16))
NO_COST: Any = object()


def of_winner(configuration: Configuration, space: Space = BLOCKS, mode: Mode = "swappable") -> SearchResult:
    """What is added to a result; estimates and predictors must not be asked for."""
    winner = Choice("winner 1", configuration, mode, Interval(1e-3, 2e-3, 3e-3))
    result = SearchResult(read_budget("decode=3ms"), 3e-3, 1e-3, 0.9, "predicted", PLACE, (winner,), (), {})
    problem = Problem(space, NO_COST, (NO_COST,), mode, 0, SILENT)
    return with_contributions(result, problem, cast(Any, "estimates"))


@pytest.mark.parametrize(
    "configuration",
    [baselines(BLOCKS)["q+v 16"], Configuration.uniform(SHAPE, 2)],
    ids=["ties broken", "rank that is no choice"],
)
def test_a_winner_outside_the_space_has_none(configuration: Configuration) -> None:
    assert of_winner(configuration).contributions == ()


def test_merged_adapters_have_none() -> None:
    assert of_winner(Configuration.uniform(SHAPE, 4), mode="merged").contributions == ()
