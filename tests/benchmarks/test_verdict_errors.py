"""Error rates of verdicts, on a few trials."""

import pytest
from verdict_errors import case


@pytest.mark.parametrize(("overheads", "met"), [((0.02,), True), ((0.18,), False), ((0.02, 0.18), True)])
def test_verdicts_far_from_the_budget_are_right(overheads: tuple[float, ...], met: bool) -> None:
    found = case(overheads, noise=0.005, trials=4)
    assert found["lost"] == (0.0 if met else None)
    assert found["any_met_wrongly"] == (0.0 if 0.18 in overheads else None)
