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


def test_a_quantised_base_shows_its_own_operators(operators: Callable[..., Any]) -> None:
    found = operators("--device", "ort-cpu:int4,threads=1", "--json").json
    rows = {row["operator"]: row for row in found["operators"]}
    assert (found["quantisation"], found["placement"], found["sites"]) == ("int4", "all", SITES)
    assert rows["MatMulNBits"]["base_calls"] == rows["MatMulNBits"]["adapted_calls"] == SITES + 1 - 4
    assert (added(found)["MatMul"], added(found)["Gemm"]) == (SITES, SITES)


def test_the_table_ends_with_the_latency_without_profiler(operators: Callable[..., Any]) -> None:
    answer = operators("--device", ORT)
    assert answer.code == 0, answer.err
    lines = [line for line in answer.out.splitlines() if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in lines[-3:]] == [
        "outside operators",
        "total, profiled",
        "total, not profiled",
    ]
    assert "the profiler makes a call" in answer.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--device", "simulated"),
            "simulated: the device does not attribute time to operators; torch-cpu, ort-cpu and",
        ),
        (("adapter", "--rank", 4), "an adapter folder has sites and ranks of its own"),
        (("--mode", "static"), "torch applies adapters swappable or merged, not 'static'"),
    ],
)
def test_bad_input_is_refused(operators: Callable[..., Any], options: tuple[object, ...], message: str) -> None:
    answer = operators(*options)
    assert answer.code == 2
    assert message in answer.err
