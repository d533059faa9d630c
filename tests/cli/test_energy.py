"""`adaptare overhead --energy`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def overhead(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(device: str, *options: object) -> Any:
        words = ("overhead", "tiny-random", "--device", device, "--rank", 4, "-p", 0, "--energy")
        return run(*words, "--seconds", 0.3, "--openings", 1, "--cache", model_cache, *options)

    return call


def test_joules_stand_beside_seconds(overhead: Callable[..., Any]) -> None:
    rows = overhead("simulated:power_w=5", "--json").json["energy"]["rows"]
    base, *others = rows
    assert (base["placement"], base["over_base"]) == ("base", None)
    assert base["watts"] == pytest.approx(5)
    assert {row["mode"] for row in others} >= {"swappable", "merged"}
    assert all(row["joules"]["lower"] <= row["joules"]["middle"] <= row["joules"]["upper"] for row in rows)
    assert "energy of a call" in overhead("simulated:power_w=5").out


def test_where_nothing_counts_nothing_is_estimated(overhead: Callable[..., Any]) -> None:
    found = overhead("simulated", "--json").json
    assert found["energy"]["rows"] == []
    assert found["rows"]
    assert "energy: not available: simulated has no counter" in overhead("simulated").out
