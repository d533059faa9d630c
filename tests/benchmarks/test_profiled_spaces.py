"""Errors of predictors of several spaces, for the same placements."""

from typing import Any

import numpy as np
import pytest
from profiled_spaces import judged, means

from adaptare.profiler import named_space, open_model


def row(space: str, name: str, predicted: float, measured: float, group: str = "kinds of linears") -> dict[str, Any]:
    ends = {"predicted": [predicted] * 3, "overhead": [measured] * 3}
    return {"space": space, "group": group, "name": name, "extrapolates": False, **ends}


def test_errors_are_points_of_overhead_and_differences_paired() -> None:
    rows = [row("blocks", "a", 0.10, 0.07), row("blocks", "b", 0.05, 0.06)]
    rows += [row("sites", "a", 0.07, 0.07), row("sites", "b", 0.08, 0.06), row("sites", "a", 0.5, 0.1, "others")]
    rows += [row("sites", "b", 0.1, 0.1, "others"), *(row("blocks", name, 0.1, 0.1, "others") for name in "ab")]
    found = {(each["group"], each["space"]): each for each in means(rows)}
    first, second = (found["kinds of linears", space] for space in ("blocks", "sites"))
    assert (first["points"][1], second["points"][1]) == pytest.approx((2, 1))
    assert first["difference"] is None
    # Student's t of the differences -3 and 1: 12.706 * half their distance.
    assert second["difference"] == pytest.approx((-1 - 12.706 * 2, -1, -1 + 12.706 * 2), abs=1e-3)
    assert found["others", "sites"]["points"][1] == pytest.approx(20)


def test_sets_of_kinds_differ_and_most_are_no_points_of_halves() -> None:
    shape = open_model("tiny-random").shape
    space = named_space("blocks", shape)
    points = {space.decode(codes) for codes in space.at(np.indices(space.n_choices).reshape(space.n_axes, -1).T)}
    found = judged(shape)
    sets = {config for (group, _), config in found.items() if group == "kinds of linears"}
    assert len(sets) == sum(group == "kinds of linears" for group, _ in found)
    assert len(sets - points) > len(sets) / 3
    assert {config for (group, _), config in found.items() if group == "halves of layers"} <= points
