"""`adaptare operators`: where the time goes, on both runtimes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ORT, TORCH = "ort-cpu:threads=1", "torch-cpu:threads=1"
# Linears of tiny-random: two layers of seven.
SITES = 14


@pytest.fixture
def operators(run: Callable[..., Any], model_cache: Path) -> Callable[..., Any]:
    def call(*options: object) -> Any:
        words = ("operators", "tiny-random", "--rank", 4, "--calls", 2, "--cache", model_cache)
        phase = () if "-p" in options or "-d" in options else ("-d", 4)
        return run(*words, *phase, *options)

    return call


def added(found: dict[str, Any]) -> dict[str, float]:
    rows = ((row["operator"], row["adapted_calls"] - row["base_calls"]) for row in found["operators"])
    return {name: calls for name, calls in rows if calls}


@pytest.mark.slow
@pytest.mark.parametrize("device", [ORT, TORCH])
def test_every_second_is_accounted_for_and_every_linear_gets_two_products(
    operators: Callable[..., Any], device: str
) -> None:
    found = operators("--device", device, "--json").json
    assert (found["device"], found["phase"], found["length"], found["mode"]) == (device, "decode", 4, "swappable")
    assert (found["placement"], found["sites"], found["rank"]) == ("all", SITES, 4)
    for part in ("base", "adapted"):
        whole, rows = found[part], found["operators"]
        assert whole["profiled_calls"] == 6
        assert whole["outside_s"] >= 0
        assert sum(row[f"{part}_s"] for row in rows) + whole["outside_s"] == pytest.approx(whole["profiled_s"])
        assert sum(row[f"{part}_share"] for row in rows) <= 1
        assert whole["slowdown"] == pytest.approx(whole["profiled_s"] / whole["plain_s"])
    for row in found["operators"]:
        assert row["difference_s"] == pytest.approx(row["adapted_s"] - row["base_s"])
    # In the base, q, k and v of each of the two layers are one product.
    calls = {"MatMul": SITES, "Gemm": SITES} if device == ORT else {"aten::mm": 2 * SITES, "aten::add": SITES}
    assert {kind: added(found)[kind] for kind in calls} == calls


def test_only_chosen_linears_get_more(operators: Callable[..., Any]) -> None:
    found = operators("--device", ORT, "--sites", "q_proj,v_proj", "-p", 4, "--json").json
    assert (found["placement"], found["sites"], found["phase"]) == ("q_proj,v_proj", 4, "prefill")
    assert (added(found)["MatMul"], added(found)["Add"]) == (8, 4)


def test_a_merged_adapter_adds_nothing(operators: Callable[..., Any]) -> None:
    assert added(operators("--device", ORT, "--mode", "merged", "--json").json) == {}


def test_a_quantised_base_shows_its_own_operators(operators: Callable[..., Any]) -> None:
    found = operators("--device", "ort-cpu:int4,threads=1", "--json").json
    rows = {row["operator"]: row for row in found["operators"]}
    assert found["quantisation"] == "int4"
    assert rows["MatMulNBits"]["base_calls"] == rows["MatMulNBits"]["adapted_calls"] == SITES + 1 - 4
    assert (added(found)["MatMul"], added(found)["Gemm"]) == (SITES, SITES)


def test_the_table_ends_with_the_latency_without_profiler_and_says_what_to_trust(
    operators: Callable[..., Any],
) -> None:
    answer = operators("--device", ORT)
    assert answer.code == 0, answer.err
    lines = [line for line in answer.out.splitlines() if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in lines[-3:]] == [
        "outside operators",
        "total, profiled",
        "total, not profiled",
    ]
    assert "~MatMul" in answer.out
    assert "the profiler makes a call" in answer.out
    assert "take below 50 µs each time, much of which may be the profiler's own" in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--device", "simulated"),
            "simulated: the device does not attribute time to operators; torch-cpu, ort-cpu and",
        ),
        (("--sites", "w_proj"), "the model has no w_proj; it has q_proj, k_proj"),
        (("-d", -1), "-d must be at least 0, not -1"),
        (("-p", 0), "-p must be at least 1, not 0"),
        (("adapter", "--rank", 4), "an adapter folder has sites and ranks of its own"),
        (("--mode", "static"), "torch applies adapters swappable or merged, not 'static'"),
        (("--calls", 0), "--calls"),
    ],
)
def test_bad_input_is_refused(operators: Callable[..., Any], options: tuple[object, ...], message: str) -> None:
    answer = operators(*options)
    assert answer.code == 2
    assert message in answer.err


@pytest.mark.llama
def test_a_runtime_without_a_profiler_says_so(operators: Callable[..., Any]) -> None:
    answer = operators("--device", "llama-cpu:threads=1")
    assert answer.code == 2
    assert "the device does not attribute time to operators; torch-cpu, ort-cpu and openvino-cpu do" in answer.err
