"""`adaptare overhead --energy`."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.core.units import energy
from adaptare.devices.simulated import SimulatedWorker


@pytest.fixture
def overhead(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(device: str, *options: object) -> Any:
        words = ("overhead", "tiny-random", "--device", device, "--rank", 4, "-p", 0, "--energy")
        return run(*words, "--seconds", 1, "--openings", 1, "--cache", model_cache, *options)

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


def test_a_failure_while_counting_costs_nothing_of_what_was_measured(
    overhead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = itertools.count(100.0, -1.0)
    monkeypatch.setattr(SimulatedWorker, "energy_j", lambda worker: next(readings))
    answer = overhead("simulated:power_w=5", "--json")
    assert answer.code == 3
    assert answer.json["rows"]
    assert "started again" in answer.json["energy"]["reason"]


@pytest.mark.parametrize(("joules", "said"), [(0.0123, "12.3 mJ"), (3.12, "3.12 J"), (15200.0, "15,200 J")])
def test_energy_is_written_for_people(joules: float, said: str) -> None:
    assert energy(joules) == said


def test_stubs_have_no_energy_of_a_whole(overhead: Callable[..., Any]) -> None:
    refused = overhead("simulated", "--stubs")
    assert refused.code == 2
    assert "counting energy loads whole models, and stubs replace them; choose one (option --stubs)" in refused.err
