"""A device that is slower or faster than when it was calibrated: what commands say, and which seconds they give."""

from collections.abc import Callable
from typing import Any

import pytest

from adaptare.devices import SimulatedDevice, Work

PROFILE = ("profile", "tiny-random", "--device", "simulated", "--seconds", 0.1, "--json")
OVERHEAD = ("overhead", "tiny-random", "--device", "simulated", "--seconds", 0.1, "-p", 0, "--openings", 1, "--json")


@pytest.fixture
def slow_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """From here on everything takes so many times as long as it would."""
    latency_s = SimulatedDevice.latency_s

    def slow(times: float) -> None:
        def slower(device: SimulatedDevice, work: Work) -> float:
            return times * latency_s(device, work)

        monkeypatch.setattr(SimulatedDevice, "latency_s", slower)

    return slow


@pytest.fixture
def profiled(run: Callable[..., Any], model_cache: Any) -> Callable[..., Any]:
    """Profiles so many adapters; those that are there already are not measured again."""

    def call(count: int, *options: object) -> Any:
        answer = run(*PROFILE, "--cache", model_cache, "--count", count, *options)
        assert answer.code == 0, answer.err
        return answer

    return call


def test_a_first_session_that_was_slow_does_not_slow_the_later_ones(
    profiled: Callable[..., Any], slow_by: Callable[[float], None]
) -> None:
    true = {row["workload"]: row["latency"]["middle"] for row in profiled(12, "--store", "true.db").json["rows"]}
    slow_by(1.5)
    profiled(8)
    slow_by(1.0)
    later = profiled(12)
    assert "33% faster than when it was calibrated; it is calibrated anew" in later.err
    assert len(later.json["rows"]) == 12
    for row in later.json["rows"]:
        assert row["latency"]["middle"] == pytest.approx(true[row["workload"]])


def test_a_session_a_little_slower_changes_the_calibration_only_where_that_is_asked_for(
    profiled: Callable[..., Any], slow_by: Callable[[float], None]
) -> None:
    base_s = profiled(2).json["base_s"]
    slow_by(1.04)
    little = profiled(3)
    assert little.json["base_s"] == pytest.approx(base_s)
    assert "calibrated" not in little.err
    assert profiled(4, "--recalibrate").json["base_s"] == pytest.approx(1.04 * base_s)


def test_overhead_takes_the_present_speed_where_that_is_asked_for(
    run: Callable[..., Any], slow_by: Callable[[float], None], model_cache: Any
) -> None:
    words = (*OVERHEAD, "--cache", model_cache)
    base_s = run(*words).json["rows"][0]["base_s"]
    slow_by(1.04)
    assert run(*words).json["rows"][0]["base_s"] == pytest.approx(base_s)
    assert run(*words, "--recalibrate").json["rows"][0]["base_s"] == pytest.approx(1.04 * base_s)
