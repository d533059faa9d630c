"""Comparison of costs at equal measured overhead."""

from typing import Any

import pytest
from search_costs import LARGEST, LATENCY, beside, summary


def row(cost: str, overhead: float, loss: float, *, seed: int = 0, part: float = 0.5) -> dict[str, Any]:
    return {"seed": seed, "cost": cost, "part": part, "loss": loss, "overhead": [overhead, overhead, overhead]}


CURVE = [row(LATENCY, 0.3, 2.2), row(LATENCY, 0.1, 3.0), row(LARGEST, 0.5, 2.0, part=1.0)]


@pytest.mark.parametrize(
    ("overhead", "expected"), [(0.1, 3.0), (0.2, 2.6), (0.4, 2.1), (0.5, 2.0), (0.05, None), (0.51, None)]
)
def test_a_placement_is_compared_at_its_own_measured_overhead(overhead: float, expected: float | None) -> None:
    found = beside(row("linears", overhead, 2.5), CURVE)
    assert (found and found.nats) == (expected and pytest.approx(2.5 - expected))


def test_only_placements_of_the_same_training_are_compared() -> None:
    other = [row(LATENCY, 0.2, 9.0, seed=1), *CURVE]
    found = beside(row("linears", 0.2, 2.5), other)
    assert found
    assert found.nats == pytest.approx(-0.1)
    assert beside(row("linears", 0.2, 2.5, seed=2), other) is None


def test_a_placement_that_was_not_measured_is_not_compared_and_counted() -> None:
    failed = {"seed": 0, "cost": "linears", "part": 0.5, "loss": 2.5, "failure": "out of memory"}
    broken = {"seed": 0, "cost": LATENCY, "part": 0.25, "loss": 0.0, "failure": "out of memory"}
    (over_all, of_part) = summary([*CURVE, broken, failed, row("linears", 0.2, 2.9)])
    assert (over_all["placements"], over_all["compared"], over_all["difference"]) == (2, 1, None)
    assert of_part["by_training"] == [pytest.approx(0.3)]


def test_the_interval_is_over_means_of_trainings() -> None:
    curves = [{**each, "seed": seed} for seed in (0, 1) for each in CURVE]
    others = [
        row("linears", 0.2, 2.7, seed=0, part=0.25),
        row("linears", 0.4, 2.4, seed=0),
        row("linears", 0.4, 2.2, seed=1),
    ]
    found = {each["part"]: each for each in summary([*curves, *others])}
    assert found[None]["by_training"] == pytest.approx([0.2, 0.1])
    # Student's t of two values: 12.706 * half their distance.
    assert found[None]["difference"] == pytest.approx((0.15 - 12.706 * 0.05, 0.15, 0.15 + 12.706 * 0.05), abs=1e-4)
    assert found[0.25]["difference"] is None
    assert found[0.5]["by_training"] == pytest.approx([0.3, 0.1])


def test_a_shared_measurement_widens_the_interval_and_others_do_not() -> None:
    """Each training's curve falls by 4 nats per unit; half of the interval of the shared overhead is 0.02."""
    curves = [
        {**each, "seed": seed, "overhead": [each["overhead"][0] + 0.001 * seed] * 3}
        for seed in (0, 1, 2)
        for each in CURVE[:2]
    ]
    shared = [{**row("linears", 0.2, 2.7, seed=seed), "overhead": [0.2, 0.18, 0.22]} for seed in (0, 1, 2)]
    alone = [
        {**row("linears", 0.2, 2.7, seed=seed), "overhead": [0.2, 0.18 + 0.001 * seed, 0.22]} for seed in (0, 1, 2)
    ]
    narrow, wide = (next(iter(summary([*curves, *rows])))["difference"] for rows in (alone, shared))
    assert narrow[1] == pytest.approx(wide[1])
    # An error that all trainings share is no part of their spread.
    more = (0.02 * 4.0) ** 2
    assert (wide[2] - wide[1]) ** 2 - (narrow[2] - narrow[1]) ** 2 == pytest.approx(more, rel=1e-6)
