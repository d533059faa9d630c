"""Costs and gains of a winner's adapters, where they are unknown."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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


def of_winner(
    configuration: Configuration,
    space: Space = BLOCKS,
    mode: Mode = "swappable",
    *,
    changes: Any = "estimates",
    cost: Any = NO_COST,
) -> SearchResult:
    """What is added to a result; the default estimates and costs must not be asked for."""
    winner = Choice("winner 1", configuration, mode, Interval(1e-3, 2e-3, 3e-3))
    result = SearchResult(read_budget("decode=3ms"), 3e-3, 1e-3, 0.9, "predicted", PLACE, (winner,), (), {})
    return with_contributions(result, Problem(space, NO_COST, (cost,), mode, 0, SILENT), changes)


@dataclass(frozen=True)
class GivenChanges:
    """Each axis gains the number of its choice, in nats, on two examples of four tokens together."""

    space: Space
    examples: Any = (SimpleNamespace(completion_tokens=1), SimpleNamespace(completion_tokens=3))

    def __call__(self, point: NDArray[np.int64]) -> NDArray[np.float64]:
        assert len(point) == self.space.n_axes
        return point[:, None] - np.arange(3.0)


class CostOfLinears:
    """Cost of one second for each adapted linear."""

    def predict(self, codes: NDArray[np.int64], dimensions: Any) -> Any:
        return SimpleNamespace(mean=(codes > 0).sum(axis=1))


def test_a_winner_that_breaks_ties_has_those_of_each_linear() -> None:
    cost = SimpleNamespace(predictor=CostOfLinears())
    found = of_winner(baselines(BLOCKS)["q+v 16"], changes=GivenChanges(BLOCKS), cost=cost).contributions
    paths = [(site.path,) for site in SHAPE.sites if site.kind in {"q_proj", "v_proj"}]
    assert found == tuple(Contribution(path, 1.0, 2 / 4) for path in paths)


@pytest.mark.parametrize(
    ("rank", "choices", "mode"),
    [(2, (0, 4, 16), "swappable"), (4, (0, 4, 16), "merged"), (4, (4, 16), "swappable")],
    ids=["rank outside the space", "merged", "no rank of zero"],
)
def test_where_nothing_can_be_left_out_there_are_none(rank: int, choices: tuple[int, ...], mode: Mode) -> None:
    space = named_space("blocks", SHAPE, ranks=choices)
    assert of_winner(Configuration.uniform(SHAPE, rank), space, mode).contributions == ()


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
