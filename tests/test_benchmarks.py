"""Benchmarks run once, with the smallest numbers; those of large models or other people's data are imported."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MEASURED = BENCHMARKS / "measured"
TINY = [
    ["prediction_speed.py"],
    ["profiling.py", "--only", "false_alarm"],
    ["search_equal_latency.py", str(MEASURED / "search_latency.json")],
    ["search_equal_loss.py", str(MEASURED / "search.json")],
    ["search_regret.py", "--seeds", "2", "--spaces", "small"],
    ["verdict_errors.py", "--trials", "20"],
]
pytestmark = pytest.mark.slow


def test_a_benchmark_can_be_imported() -> None:
    names = sorted(file.stem for file in BENCHMARKS.glob("*.py"))
    assert [name for name in names if not importlib.import_module(name).__doc__] == []


@pytest.mark.parametrize("words", TINY, ids=lambda words: words[0])
def test_a_benchmark_runs_with_the_smallest_numbers(words: list[str], tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / words[0]), *words[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()
