"""The table of bad inputs, and the kept result of the benchmark."""

import json
from pathlib import Path

import pytest
from robustness_cases import cases
from robustness_values import PLAIN

KEPT = Path(__file__).parents[2] / "benchmarks" / "measured" / "robustness.json"


def test_every_command_has_bad_inputs() -> None:
    names = [case.name for case in cases()]
    assert len(names) >= 500
    assert {name.split()[0] for name in names} == set(PLAIN)


@pytest.mark.parametrize("name", ["records_lost", "half_written", "unclear_errors", "tracebacks"])
def test_nothing_was_lost_and_every_answer_was_clear(name: str) -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    assert kept[name] == 0
    assert kept["faults_injected"] == len(set(kept["faults"])) >= 200
    assert kept["bad_inputs"] == len(set(kept["inputs"])) >= 500
