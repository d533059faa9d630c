"""The number of examples that would decide between two choices of a search."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from adaptare.profiler import Configuration
from adaptare.profiler.analysis import Interval
from adaptare.workflows.search.searching import _warn_of_few_examples


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
