"""Every benchmark can be imported, and quick keys are found with the smallest numbers, whatever their values."""

import importlib
import math
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize(
    ("module", "function", "numbers"),
    [
        ("profiling_real", "harness", {"calls": 20}),
        ("profiling_real", "other_timers", {"rounds": 2, "calls": 1}),
        ("profiling_real", "same_file_twice", {"sessions": 1, "pairs": 1, "openings": 2}),
        ("profiling_memory", "equal_files", {"key": "small", "size": 1 << 23}),
        ("profiling_simulated", "alarms", {"traces": 4}),
    ],
)
def test_a_quick_key_is_found(module: str, function: str, numbers: dict[str, int]) -> None:
    found = getattr(importlib.import_module(module), function)(**numbers)
    values = [value for value in found.values() if isinstance(value, float)]
    assert values
    assert all(math.isfinite(value) for value in values)
