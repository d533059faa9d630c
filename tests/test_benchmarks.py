"""Every benchmark can be imported, and quick keys are found with the smallest numbers, whatever their values."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.parametrize(
    ("module", "function", "numbers"),
    [
        ("profiling_real", "harness", {"calls": 20}),
        ("profiling_real", "same_file_twice", {"sessions": 1, "pairs": 1, "openings": 2}),
        ("profiling_protocols", "equal_time", {"runs": 2, "run_s": 0.1}),
        ("profiling_simulated", "alarms", {"traces": 4}),
    ],
)
def test_a_quick_key_is_found(module: str, function: str, numbers: dict[str, int]) -> None:
    found = getattr(importlib.import_module(module), function)(**numbers)
    assert all(figure.cases for figure in found.values())
    json.dumps({key: figure.value for key, figure in found.items()}, allow_nan=False)


def test_every_gate_is_found_by_its_part() -> None:
    profiling = importlib.import_module("profiling")
    alarms = next(part for part in profiling.PARTS if "drift_alarm" in part.goals)
    found = alarms.find(traces=4)
    assert set(alarms.goals) == set(found)
    assert profiling.row(found["false_alarm"], alarms.goals["false_alarm"]) == {
        "value": 0.0,
        "cases": 4,
        "goal": "<= 0.02",
        "meets": True,
    }


def test_a_share_that_chance_explains_meets_its_goal() -> None:
    figures = importlib.import_module("profiling_figures")
    goal = figures.share_like(0.05)
    assert goal.met(figures.Figure(3 / 40, 40))
    assert not goal.met(figures.Figure(9 / 40, 40))


def test_the_table_of_overheads_has_a_line_for_each_placement_and_no_merged_rows() -> None:
    made = importlib.import_module("overhead_table")
    row = {"placement": "all", "mode": "swappable", "overhead": 0.125, "overhead_lower": 0.12, "overhead_upper": 0.131}
    rows = [{**row, "rank": rank} for rank in made.RANKS] + [{**row, "rank": 64, "mode": "merged", "overhead": 0.0}]
    rows += [{**row, "rank": rank, "placement": "q_proj,v_proj"} for rank in made.RANKS]
    lines = made.table([{"device": "ort-cpu:threads=1", "rows": rows}]).splitlines()
    cells = " | ".join(["+12.5 % [12.0, 13.1]"] * 4)
    assert lines[2:] == [
        f"| ONNX Runtime fp32, all 210 linears | {cells} |",
        f"| ONNX Runtime fp32, q and v | {cells} |",
    ]
