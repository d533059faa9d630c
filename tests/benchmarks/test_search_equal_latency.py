"""Gain of winners at equal measured overhead."""

from typing import Any

import pytest
from search_equal_latency import compared


def row(name: str, overhead: float, loss: float, seed: int) -> dict[str, Any]:
    return {"seed": seed, "part": 0.5, "name": name, "loss": loss, "overhead": [overhead, overhead, overhead]}


def test_placements_are_compared_with_winners_and_the_largest_rank_at_their_own_overhead() -> None:
    curve = [[row("winner", 0.1, 3.0, seed), row("rank 16 everywhere", 0.3, 2.0, seed)] for seed in (0, 1)]
    others = [row("MLPs", 0.2, 2.7, 0), row("MLPs", 0.25, 2.15, 1), row("q and v", 0.05, 9.0, 0)]
    found = {(each["cost"], each["part"]): each for each in compared([*curve[0], *curve[1], *others])}
    assert set(found) == {(name, part) for name in ("MLPs", "q and v") for part in (None, 0.5)}
    assert found["MLPs", None]["by_training"] == pytest.approx([0.2, -0.1])
    assert (found["q and v", None]["placements"], found["q and v", None]["compared"]) == (1, 0)
