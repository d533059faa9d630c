"""Costs and gains of a winner's adapters, where they are unknown."""

from dataclasses import replace
from typing import Any, cast

import pytest

from adaptare.core.chart import HeatMap
from adaptare.core.progress import SILENT
from adaptare.profiler import Configuration, Mode, ModelShape, Space
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads.space_file import named_space
from adaptare.search import read_budget
from adaptare.search.algorithms import baselines
from adaptare.views import search as view
from adaptare.workflows.search.contributions import with_contributions
from adaptare.workflows.search.problem import Problem
from adaptare.workflows.search.result import Choice, Contribution, Place, SearchResult

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


def test_without_a_rank_of_zero_there_are_none() -> None:
    space = named_space("blocks", SHAPE, ranks=(4, 16))
    assert of_winner(Configuration.uniform(SHAPE, 4), space).contributions == ()


def contributing() -> SearchResult:
    """A result of two budgets, with adapters in the second of three layers alone."""
    layer = "model.layers.1."
    attention = tuple(f"{layer}self_attn.{kind}" for kind in ("q_proj", "v_proj"))
    found = (Contribution(attention, 2e-4, 0.25), Contribution((f"{layer}mlp.up_proj",), 1e-4, -0.125))
    ranks = {path: 4 for each in found for path in each.linears} | {"model.layers.2.mlp.up_proj": 8}
    winner = Choice("winner 1", Configuration.of(ranks), "swappable", Interval(1e-3, 2e-3, 3e-3))
    result = SearchResult(read_budget("decode=3ms"), 3e-3, 1e-3, 0.9, "predicted", PLACE, (winner,), (), {})
    other = replace(result, budget=read_budget("prefill=9ms"), base=2e-3)
    return replace(result, contributions=found, further=(replace(other, contributions=found),))


def test_each_budget_has_a_table_by_kind_of_linear() -> None:
    first, second = (view.by_kind(each) for each in contributing().under_each)
    assert first.cells == [["q_proj, v_proj", "2", "+20.0%", "0.250"], ["up_proj", "1", "+10.0%", "-0.125"]]
    assert [row[2] for row in second.cells] == ["+10.0%", "+5.0%"]
    assert first.title.endswith("budget decode=3ms")
    assert second.title.endswith("budget prefill=9ms")


def test_maps_have_every_layer() -> None:
    charts = {chart.name: chart for chart in view.heat_maps(contributing())}
    assert set(charts) == {"winners", "contributions-1", "contributions-2"}
    cost, gain = charts["contributions-2"].panels
    assert isinstance(cost, HeatMap)
    assert isinstance(gain, HeatMap)
    assert cost.places == ["0", "1", "2"]
    assert cost.rows == {"q_proj, v_proj": [0.0, pytest.approx(10.0), 0.0], "up_proj": [0.0, pytest.approx(5.0), 0.0]}
    assert gain.rows == {"q_proj, v_proj": [0.0, 0.25, 0.0], "up_proj": [0.0, -0.125, 0.0]}
