"""`adaptare compare`: the same workloads, measured twice."""

import gc
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, Measurement, ModelShape, Store, Workload
from adaptare.profiler.store.measurement import Visit
from adaptare.workflows.comparison import compare

SLOW = "simulated:launch_s=4e-06"


@pytest.fixture(scope="module")
def profiled(commands_in: Callable[..., Any], model_cache: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stores of one device, a third of a slower one, and a fourth with other workloads."""
    folder = tmp_path_factory.mktemp("profiled")
    words = ("profile", "tiny-random", "--space", "kinds", "--rank", "0,4", "--count", 6, "--cache", model_cache)
    with commands_in(folder) as run:
        for store, device in (("one.db", "simulated"), ("two.db", "simulated"), ("slow.db", SLOW)):
            assert run(*words, "--store", store, "--device", device, "--seconds", 0.3).code == 0
        assert run(*words, "--store", "else.db", "--device", "simulated", "--seconds", 0.1, "-d", 7).code == 0
    gc.collect()  # closes the stores of these commands, which moves their newest rows into the files
    return folder


@pytest.fixture
def stores(run_in_copy: Callable[..., Any], profiled: Path) -> Callable[..., Any]:
    run: Callable[..., Any] = run_in_copy(profiled)
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


def test_a_difference_is_an_alarm_where_all_of_its_interval_is_beyond_the_band(stores: Callable[..., Any]) -> None:
    words = ("compare", "one.db", "slow.db", "--other-device", SLOW)
    ends = [row["difference"]["lower"] for row in stores(*words, "--json").json["rows"]]
    assert stores(*words, "--band", f"{99 * min(ends)}%").code == 1
    assert stores(*words, "--band", f"{101 * max(ends)}%").code == 0
    assert stores(*words, "--band", "200%").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("one.db", "slow.db"), f"name the second, {SLOW}, as well (option --other-device)"),
        (("one.db", "else.db"), "no workload was measured in both"),
        (("one.db",), "there is nothing to compare with; name another store, --other-device or --other-adapter"),
        (("one.db", "--other-adapter", "here"), "--other-adapter here is compared with --adapter; name that too"),
        (("one.db", "none.db"), "there is no store 'none.db'"),
        (("one.db", "two.db", "--device", "toaster"), "one.db has no measurements of 'toaster'; it has simulated"),
    ],
)
def test_what_cannot_be_compared_is_said(stores: Callable[..., Any], words: tuple[str, ...], message: str) -> None:
    answer = stores("compare", *words)
    assert answer.code == 2
    assert message in answer.err


def test_whole_measurements_are_compared_before_composed_ones(stores: Callable[..., Any]) -> None:
    with closing(Store("one.db")) as store:
        old = store.measurements()
        store.append([replace(each, origin="composed") for each in old[:2]])
    with closing(Store("three.db")) as store:
        store.append([old[0], replace(old[1], origin="composed"), replace(old[2], origin="composed")])
    found = stores("compare", "one.db", "three.db", "--json").json["rows"]
    assert [row["origin"] for row in found] == ["measured", "composed", "measured and composed"]


SHAPE = ModelShape("llama", 6, 128, 4, 2, 32, 256, 512, '{"name":"small"}')


def measured(session: str, seconds: Sequence[float]) -> Measurement:
    """An adapter that takes 1.2 times as long as its base, which has these samples."""
    workload = Workload(SHAPE, Configuration.uniform(SHAPE, 4))
    visits = [
        tuple(Visit(number, number, factor * each, (factor * each,)) for number, each in enumerate(seconds))
        for factor in (1.2, 1.0)
    ]
    return Measurement(workload, SimulatedDevice().info(), workload.base, 1.0, session, visits[0], visits[1])


def test_what_the_base_is_uncertain_by_counts_in_latencies() -> None:
    one, other = (
        measured(session, np.exp(0.1 * np.random.default_rng(seed).standard_normal(8)).tolist())
        for seed, session in enumerate(("a", "b"), start=1)
    )
    half_widths = {}
    for latencies in (False, True):
        (row,) = compare([one], [other], latencies=latencies)
        half_widths[latencies] = (row.difference.upper - row.difference.lower) / 2
    assert half_widths[False] < 1e-9
    assert 0.05 < half_widths[True] < 0.5


def test_too_few_rounds_for_an_interval_have_a_difference_without_one() -> None:
    one, other = measured("a", [2.0]), measured("b", [2.0])
    for latencies in (False, True):
        (row,) = compare([one], [other], latencies=latencies)
        assert (row.difference.lower, row.difference.middle, row.difference.upper) == (-1, 0, math.inf)


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")
def test_two_adapters_of_one_store(run: Callable[..., Any], saved: Callable[..., Path], model_cache: Any) -> None:
    small, large, other = saved("small", target_modules=["q_proj"]), saved("large"), saved("other", r=2)
    words = ("overhead", "tiny-random", "--device", "simulated", "--openings", 4, "--seconds", 0.1, "-p", 0)
    assert run(*words, small, large, "--store", "one.db", "--cache", model_cache).code == 0
    answer = run("compare", "one.db", "--adapter", small, "--other-adapter", large, "--json")
    assert answer.code == 1
    assert [row["verdict"] for row in answer.json["rows"]] == ["slower", "same"]
    assert run("compare", "one.db", "--adapter", large, "--other-adapter", small).code == 0
    answer = run("compare", "one.db", "--adapter", small, "--other-adapter", other)
    assert answer.code == 2
    assert "one.db has no measurement of" in answer.err
