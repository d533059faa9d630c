"""`adaptare compare`: the same workloads, measured twice."""

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.arguments import DEFAULT_BAND
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, Measurement, ModelShape, Store, Workload
from adaptare.profiler.analysis.intervals import EQUIVALENCE_BAND
from adaptare.profiler.store.measurement import Visit
from adaptare.workflows.comparison import compare

SLOW = "simulated:launch_s=4e-06"


@pytest.fixture
def stores(run: Callable[..., Any], model_cache: Any) -> Callable[..., Any]:
    """Two stores of one device, and a third of a slower one."""
    words = ("profile", "tiny-random", "--space", "kinds", "--rank", "0,4", "--count", 6, "--cache", model_cache)
    for store, device in (("one.db", "simulated"), ("two.db", "simulated"), ("slow.db", SLOW)):
        assert run(*words, "--store", store, "--device", device, "--seconds", 0.3).code == 0
    return run


def test_the_same_device_gives_the_same(stores: Callable[..., Any]) -> None:
    answer = stores("compare", "one.db", "two.db", "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["compared"], answer.json["counts"]["same"], answer.json["counts"]["slower"]) == (
        "overhead",
        6,
        0,
    )
    for row in answer.json["rows"]:
        assert row["difference"]["middle"] == pytest.approx(0.0, abs=1e-9)


def test_a_slower_device_is_the_answer_no(stores: Callable[..., Any]) -> None:
    answer = stores("compare", "one.db", "slow.db", "--other-device", SLOW, "--json")
    assert answer.code == 1
    assert (answer.json["compared"], answer.json["counts"]["slower"]) == ("latency", 6)
    for row in answer.json["rows"]:
        assert row["difference"]["middle"] == pytest.approx(row["other_s"] / row["one_s"] - 1, rel=1e-9)
    back = stores("compare", "slow.db", "one.db", "--other-device", "simulated")
    assert back.code == 0
    assert "6 faster" in back.out


def test_a_difference_that_may_lie_within_the_band_is_no_alarm(stores: Callable[..., Any]) -> None:
    slower = stores("compare", "one.db", "slow.db", "--other-device", SLOW, "--json").json["rows"]
    least = min(row["difference"]["lower"] for row in slower)
    words = ("compare", "one.db", "slow.db", "--other-device", SLOW, "--band")
    assert stores(*words, f"{99 * least}%").code == 1
    largest = max(row["difference"]["lower"] for row in slower)
    assert stores(*words, f"{101 * largest}%").code == 0
    assert len({row["workload"] for row in slower}) == 6


def test_unlike_devices_are_compared_only_when_asked_for(stores: Callable[..., Any]) -> None:
    answer = stores("compare", "one.db", "slow.db")
    assert answer.code == 2
    assert "the devices differ in device 'simulated' and 'simulated:launch_s=4e-06'" in answer.err
    assert f"name the second, {SLOW}, as well (option --other-device)" in answer.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("one.db",), "there is nothing to compare with; name another store, --other-device or --other-adapter"),
        (("one.db", "--other-adapter", "here"), "--other-adapter here is compared with --adapter; name that too"),
        (("one.db", "two.db", "--adapter", "nowhere"), "nowhere"),
        (("one.db", "none.db"), "there is no store 'none.db'"),
        (("one.db", "two.db", "--device", "toaster"), "one.db has no measurements of 'toaster'; it has simulated"),
    ],
)
def test_what_cannot_be_compared_is_said(stores: Callable[..., Any], words: tuple[str, ...], message: str) -> None:
    answer = stores("compare", *words)
    assert answer.code == 2
    assert message in answer.err


def test_workloads_have_to_be_in_both(stores: Callable[..., Any], model_cache: Any) -> None:
    words = ("overhead", "tiny-random", "--device", "simulated", "--openings", 1, "-p", 0, "-d", 7)
    stores(*words, "--store", "else.db", "--cache", model_cache)
    answer = stores("compare", "one.db", "else.db")
    assert answer.code == 2
    assert "no workload was measured in both" in answer.err


def test_without_a_band_that_of_the_library_counts() -> None:
    assert DEFAULT_BAND == EQUIVALENCE_BAND


def test_differences_within_the_band_are_the_same(stores: Callable[..., Any]) -> None:
    words = ("compare", "one.db", "slow.db", "--other-device", SLOW, "--json")
    assert stores(*words).json["counts"]["slower"] == 6
    answer = stores(*words, "--band", "100%")
    assert (answer.code, answer.json["counts"]["same"]) == (0, 6)
    assert stores(*words, "--band", "200%").code == 2


def test_devices_that_are_spelled_alike_have_hashes(stores: Callable[..., Any]) -> None:
    with closing(Store("one.db")) as store:
        old = store.measurements()
        updated = replace(old[0].device, runtime="simulated 2")
        store.append([replace(each, device=updated) for each in old])
    refused = stores("compare", "one.db", "two.db")
    assert refused.code == 2
    ours, theirs = old[0].device.hash[:8], updated.hash[:8]
    assert f"hash {ours}" in refused.err
    assert f"hash {theirs}" in refused.err
    answer = stores("compare", "one.db", "--device", ours, "--other-device", theirs, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["compared"], len(answer.json["rows"])) == ("latency", 6)


def test_whole_measurements_are_compared_before_composed_ones(stores: Callable[..., Any]) -> None:
    with closing(Store("one.db")) as store:
        old = store.measurements()
        store.append([replace(each, origin="composed") for each in old[:2]])
    with closing(Store("three.db")) as store:
        store.append([old[0], replace(old[1], origin="composed"), replace(old[2], origin="composed")])
    found = stores("compare", "one.db", "three.db", "--json").json["rows"]
    assert [row["origin"] for row in found] == ["measured", "composed", "measured and composed"]
    assert "measured and composed" in stores("compare", "one.db", "three.db").out


def test_what_the_base_is_uncertain_by_counts_in_latencies() -> None:
    def measured(sigma: float, session: str) -> Measurement:
        rng = np.random.default_rng(len(session))
        shape = ModelShape("llama", 6, 128, 4, 2, 32, 256, 512, '{"name":"small"}')
        workload = Workload(shape, Configuration.uniform(shape, 4))
        base = np.exp(sigma * rng.standard_normal(8))
        visits = [
            tuple(Visit(number, number, seconds, (seconds,)) for number, seconds in enumerate(factor * base))
            for factor in (1.2, 1.0)
        ]
        info = SimulatedDevice().info()
        return Measurement(workload, info, workload.base, 1.0, session, visits[0], visits[1])

    def half_width(sigma: float, *, latencies: bool) -> float:
        (row,) = compare([measured(sigma, "a")], [measured(sigma, "bc")], latencies=latencies)
        return (row.difference.upper - row.difference.lower) / 2

    assert half_width(0.1, latencies=False) < 1e-9
    assert 0.05 < half_width(0.1, latencies=True) < 0.5


def test_too_few_rounds_for_an_interval_have_a_difference_without_one() -> None:
    shape = ModelShape("llama", 6, 128, 4, 2, 32, 256, 512, '{"name":"small"}')
    workload, visit = Workload(shape, Configuration.uniform(shape, 4)), Visit(0, 0, 2.0, (2.0,))
    one, other = (
        Measurement(workload, SimulatedDevice().info(), workload.base, 1.0, session, (visit,), (visit,))
        for session in ("a", "b")
    )
    for latencies in (False, True):
        (row,) = compare([one], [other], latencies=latencies)
        assert (row.difference.lower, row.difference.middle, row.difference.upper) == (-1, 0, math.inf)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_two_adapters_of_one_store(run: Callable[..., Any], saved: Callable[..., Path], model_cache: Any) -> None:
    small, large, other = saved("small", target_modules=["q_proj"]), saved("large"), saved("other", r=2)
    words = ("overhead", "tiny-random", "--device", "simulated", "--openings", 4, "--seconds", 0.3, "-p", 0)
    assert run(*words, small, large, "--store", "one.db", "--cache", model_cache).code == 0
    answer = run("compare", "one.db", "--adapter", small, "--other-adapter", large, "--json")
    assert answer.code == 1
    assert [row["verdict"] for row in answer.json["rows"]] == ["slower", "same"]
    assert run("compare", "one.db", "--adapter", large, "--other-adapter", small).code == 0
    alike = run("compare", "one.db", "one.db", "--adapter", small, "--json").json
    assert alike["one"] == alike["other"] == f"one.db, simulated, {small}"
    answer = run("compare", "one.db", "--adapter", small, "--other-adapter", other)
    assert answer.code == 2
    assert "one.db has no measurement of" in answer.err
