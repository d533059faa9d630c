"""Notes of a search: ranks that hardly matter, too few examples, and merging where it costs no loss."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adaptare.core.table import Note
from adaptare.profiler import Configuration, Mode, ModelShape
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads.space_file import named_space
from adaptare.search import read_budget
from adaptare.views import search as view
from adaptare.workflows.search.result import Choice, Place, SearchResult
from adaptare.workflows.search.searching import _warn_of_few_examples, _warn_of_idle_ranks

SHAPE = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")
PLACE = Place("tiny-random", "simulated", "none", "float32", "decode", 64)


@pytest.mark.parametrize(
    ("ranks", "losses", "said"),
    [
        (
            (0, 2, 4, 16),
            {2: 2.0, 4: 9.0, 16: 2.03},
            "uniform 2 is no worse than uniform 16 on 18 validation examples (-0.030 nats, 95 % [-0.040, -0.020])",
        ),
        ((0, 2, 16), {2: 2.1, 16: 2.0}, ""),
        ((0, 16), {16: 2.0}, ""),
    ],
    ids=["they do not matter", "they matter", "one rank"],
)
def test_the_smallest_rank_is_compared_with_the_largest(
    ranks: tuple[int, ...], losses: dict[int, float], said: str
) -> None:
    space, notes = named_space("blocks", SHAPE, ranks=ranks), list[str]()
    problem: Any = SimpleNamespace(space=space, feedback=SimpleNamespace(note=notes.append))

    def difference(one: Any, other: Any) -> Interval:
        middle = losses[int(one.max())] - losses[int(other.max())]
        return Interval(middle - 0.01, middle, middle + 0.01)

    _warn_of_idle_ranks(problem, SimpleNamespace(difference=difference, tokens=np.ones(18)))  # type: ignore[arg-type]
    assert said in "".join(notes)
    assert bool(notes) == bool(said)


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Interval(-0.05, 0.01, 0.07), "about 648 would"),  # 18 * 6 ** 2
        (Interval(-0.06, -0.02, 0.02), "about 72 would"),
        (Interval(0.01, 0.02, 0.03), ""),
    ],
)
def test_the_interval_shrinks_with_the_root_of_the_examples(difference: Interval, said: str) -> None:
    first, second = Configuration(), Configuration.of({"model.layers.0.self_attn.q_proj": 4})
    notes: list[str] = []
    problem: Any = SimpleNamespace(
        space=SimpleNamespace(encode=lambda configuration: configuration),
        feedback=SimpleNamespace(note=notes.append),
    )
    loss: Any = SimpleNamespace(difference=lambda one, other: difference, tokens=np.ones(18))
    others: Any = [SimpleNamespace(configuration=second, values=(1.0,))]
    _warn_of_few_examples(problem, loss, [first], others)
    assert said in "".join(notes)
    assert bool(notes) == bool(said)


def searched(
    mode: Mode, difference: Interval | None, winner: Mode = "swappable", upper: float = 1.2e-3
) -> SearchResult:
    value, config = Interval(1e-3, 1.1e-3, 1.2e-3), Configuration.uniform(SHAPE, 4)
    winners = (Choice("winner 1", config, winner, value, 1.0, 1.0),)
    merged = Choice(mode, config, mode, replace(value, upper=upper), 1.0, 1.01, difference)
    return SearchResult(read_budget("overhead=5%"), 1.2e-3, 1e-3, 0.9, "predicted", PLACE, winners, (merged,), {})


@pytest.mark.parametrize(
    ("result", "first"),
    [
        (searched("merged", Interval(-0.02, 0.01, 0.04)), True),
        (searched("requantised", Interval(-0.02, 0.01, 0.04)), True),
        (searched("requantised", Interval(0.01, 0.05, 0.09)), False),
        (searched("requantised", None), False),
        (searched("static", Interval(-0.02, 0.01, 0.04)), False),
        (searched("merged", Interval(-0.02, 0.01, 0.04), winner="merged"), False),
        (searched("merged", Interval(-0.02, 0.01, 0.04), upper=1.3e-3), False),
    ],
    ids=["merged", "requantised", "worse", "not tested", "static", "winners are merged", "beyond the budget"],
)
def test_merging_is_said_first_if_it_is_no_worse_than_the_first_winner(result: SearchResult, first: bool) -> None:
    section = next(view.sections(result))
    assert (isinstance(section, Note) and "merge it" in str(section)) == first
    assert ("+0.010 [-0.020, +0.040]" in str(section)) == first
