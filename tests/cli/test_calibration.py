"""A device that is slower or faster than when it was calibrated: what commands say, and which seconds they give."""

from collections.abc import Callable
from pathlib import Path
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


def test_a_session_a_little_slower_changes_the_calibration_only_where_that_is_asked_for(
    profiled: Callable[..., Any], slow_by: Callable[[float], None]
) -> None:
    base_s = profiled(2).json["base_s"]
    slow_by(1.04)
    little = profiled(3)
    assert little.json["base_s"] == pytest.approx(base_s)
    assert "calibrated" not in little.err
    assert profiled(4, "--recalibrate").json["base_s"] == pytest.approx(1.04 * base_s)
    slow_by(1.5)
    assert "slower than when it was calibrated; it is calibrated anew" in profiled(5).err


def test_overhead_takes_the_present_speed_where_that_is_asked_for(
    run: Callable[..., Any], slow_by: Callable[[float], None], model_cache: Any
) -> None:
    words = (*OVERHEAD, "--cache", model_cache)
    base_s = run(*words).json["rows"][0]["base_s"]
    slow_by(1.04)
    assert run(*words).json["rows"][0]["base_s"] == pytest.approx(base_s)
    assert run(*words, "--recalibrate").json["rows"][0]["base_s"] == pytest.approx(1.04 * base_s)


def test_a_prediction_may_be_of_the_present_speed(
    run: Callable[..., Any],
    profiled: Callable[..., Any],
    slow_by: Callable[[float], None],
    rows_of: Callable[[str], list[str]],
    without_card: None,
) -> None:
    profiled(9)
    assert run("fit", "--device", "simulated", "-o", "predictor").code == 0
    Path("base.csv").write_text("name,*\nbase,0\nadapter,8\n")
    predict = ("predict", "predictor", "base.csv")
    words = (*predict, "--budget", "decode=1us", "--json")
    before, kept = run(*words).json, rows_of("adaptare.db")
    slow_by(1.3)
    assert run(*words).json == before, "no session is looked at unless that is asked for"
    answer = run(*words, "--recalibrate")
    now = answer.json
    assert now["base"] == pytest.approx(1.3 * before["base"])
    assert now["recalibration"]["fitted_s"] == before["base"]
    assert now["recalibration"]["now_s"]["middle"] == now["base"]
    assert before["recalibration"] is None
    assert "now, +30.0% compared with the sessions of predictor" in answer.err
    for old, new in zip(before["rows"], now["rows"], strict=True):
        assert new["overhead"] == pytest.approx(old["overhead"])
        widths = [row["predicted"]["upper"] / row["predicted"]["lower"] for row in (old, new)]
        assert widths[1] < widths[0]
    assert rows_of("adaptare.db") == kept, "the store is as it was"
    refused = run(*predict, "--recalibrate", "--device", "simulated:launch_s=1e-05")
    assert refused.code == 2
    assert "predicts another device than this one" in refused.err
