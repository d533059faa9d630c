"""A search leads with merging where a merged adapter is not measurably worse than the first winner."""

from dataclasses import replace

import pytest

from adaptare.core.table import Note
from adaptare.profiler import Configuration, Mode, ModelShape
from adaptare.profiler.analysis import Interval
from adaptare.search import read_budget
from adaptare.views import search as view
from adaptare.workflows.search.result import Choice, Place, SearchResult

SHAPE = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")
PLACE = Place("tiny-random", "simulated", "none", "float32", "decode", 64)


def searched(
    mode: Mode, difference: Interval | None, winner: Mode = "swappable", upper: float = 1.2e-3
) -> SearchResult:
    value, config = Interval(1e-3, 1.1e-3, 1.2e-3), Configuration.uniform(SHAPE, 4)
    winners = (Choice("winner 1", config, winner, value, 1.0, 1.0),)
    merged = Choice(mode, config, mode, replace(value, upper=upper), 1.0, 1.01, difference)
    return SearchResult(read_budget("overhead=5%"), 1.2e-3, 1e-3, 0.9, "predicted", PLACE, winners, (merged,), {})


def leads_with_merging(result: SearchResult) -> bool:
    first = next(view.sections(result))
    return isinstance(first, Note) and "merge it" in str(first)


@pytest.mark.parametrize("mode", ["merged", "requantised"])
def test_merging_is_said_first_if_it_is_no_worse(mode: Mode) -> None:
    result = searched(mode, Interval(-0.02, 0.01, 0.04))
    assert leads_with_merging(result)
    assert "1.010" in str(next(view.sections(result)))
    assert "+0.010 [-0.020, +0.040]" in str(next(view.sections(result)))


@pytest.mark.parametrize(
    "result",
    [
        searched("requantised", Interval(0.01, 0.05, 0.09)),
        searched("requantised", None),
        searched("static", Interval(-0.02, 0.01, 0.04)),
        searched("merged", Interval(-0.02, 0.01, 0.04), winner="merged"),
        searched("merged", Interval(-0.02, 0.01, 0.04), upper=1.3e-3),
    ],
    ids=["worse", "not tested", "not merged", "winners are merged", "beyond the budget"],
)
def test_otherwise_the_table_comes_first(result: SearchResult) -> None:
    assert not leads_with_merging(result)
