"""A device whose processors may not use their highest frequency is said to throttle."""

from types import SimpleNamespace
from typing import Any

import pytest

from adaptare.workflows.profiling.campaign import throttled

COOL = {"processors": "0 1 2 3", "allowed_hz": 1.8e9, "max_hz": 1.8e9}
HOT = {"processors": "4 5", "allowed_hz": 1.2e9, "max_hz": 2.4e9}
UNKNOWN = {"processors": "6", "allowed_hz": None, "max_hz": 2.4e9}


def measured(**environment: Any) -> Any:
    return SimpleNamespace(environment=environment)


def test_the_share_that_is_left_is_told_once() -> None:
    hot = measured(after={"clusters": [COOL, HOT, UNKNOWN]})
    assert list(throttled([hot, measured(after={"clusters": [COOL]}), hot])) == [
        "the device throttles: its processors 4 5 may use 50% of their highest frequency; let it cool down, or lift "
        "the limit, and repeat"
    ]


@pytest.mark.parametrize(
    "environment", [{}, {"after": {}}, {"after": {"clusters": None}}, {"before": {"clusters": [HOT]}}]
)
def test_where_nothing_is_known_at_the_end_nothing_is_said(environment: dict[str, Any]) -> None:
    assert list(throttled([measured(**environment)])) == []
