"""The overhead that a choice by hand needs for the loss of a winner."""

from typing import Any

import pytest
from search_equal_loss import of_training, reaches

BASE_S, WHOLE_S = 0.010, 0.002


def row(part: float, name: str, share: float, loss: float) -> dict[str, Any]:
    times = {"limit_s": BASE_S + part * WHOLE_S, "predicted_upper_s": BASE_S + share * WHOLE_S}
    return {"part": part, "name": name, "loss": loss, **times}


def training(winners: tuple[float, float], others: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    rows = []
    for number, part in enumerate((0.25, 0.5)):
        rows += [row(part, "winner", part, winners[number]), row(part, "rank 16 everywhere", 1.0, 2.0)]
        rows += [row(part, name, part, losses[number]) for name, losses in others.items()]
    return rows


def test_the_choice_by_hand_with_the_least_overhead_counts() -> None:
    hand = {"all linears": (3.0, 2.4), "MLPs": (2.8, 2.6), "q and v": (3.5, 3.5), "attention": (3.5, 3.4)}
    quarter, half = of_training(training((2.7, 2.3), hand))
    assert quarter["by_hand"] == "MLPs"
    assert quarter["needs"] == pytest.approx(0.375)
    assert quarter["ratio"] == pytest.approx(0.25 / 0.375)
    assert half["by_hand"] == "all linears", "between its half and the largest rank everywhere"
    assert half["needs"] == pytest.approx(0.5 + 0.5 * (2.4 - 2.3) / (2.4 - 2.0))


def test_a_loss_below_all_is_not_reached() -> None:
    hand = dict.fromkeys(("all linears", "MLPs", "q and v", "attention"), (3.0, 2.5))
    quarter, half = of_training(training((2.7, 1.9), hand))
    assert quarter["needs"] == pytest.approx(0.4)
    assert (half["by_hand"], half["needs"], half["ratio"]) == (None, None, None)


@pytest.mark.parametrize(("loss", "share"), [(3.5, 0.25), (3.0, 0.25), (2.6, 0.375), (2.1, 0.9375), (1.9, None)])
def test_losses_are_interpolated_also_where_they_rise(loss: float, share: float | None) -> None:
    found = reaches([(0.25, 3.0), (0.5, 2.2), (0.75, 2.4), (1.0, 2.0)], loss)
    assert found == (None if share is None else pytest.approx(share))
