"""Note of a search that ranks hardly matter."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adaptare.profiler import ModelShape
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads.space_file import named_space
from adaptare.workflows.search.searching import _warn_of_idle_ranks

SHAPE = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")


def notes_of(ranks: tuple[int, ...], losses: dict[int, float]) -> list[str]:
    space, notes = named_space("blocks", SHAPE, ranks=ranks), list[str]()
    problem: Any = SimpleNamespace(space=space, feedback=SimpleNamespace(note=notes.append))

    def difference(one: Any, other: Any) -> Interval:
        middle = losses[int(one.max())] - losses[int(other.max())]
        return Interval(middle - 0.01, middle, middle + 0.01)

    _warn_of_idle_ranks(problem, SimpleNamespace(difference=difference, tokens=np.ones(18)))  # type: ignore[arg-type]
    return notes


def test_the_smallest_rank_is_compared_with_the_largest() -> None:
    (note,) = notes_of((0, 2, 4, 16), {2: 2.0, 4: 9.0, 16: 2.03})
    assert (
        "uniform 2 is no worse than uniform 16 on 18 validation examples (-0.030 nats, 95 % [-0.040, -0.020])" in note
    )


@pytest.mark.parametrize(
    ("ranks", "losses"), [((0, 2, 16), {2: 2.1, 16: 2.0}), ((0, 16), {16: 2.0})], ids=["they matter", "one rank"]
)
def test_otherwise_there_is_no_note(ranks: tuple[int, ...], losses: dict[int, float]) -> None:
    assert notes_of(ranks, losses) == []
