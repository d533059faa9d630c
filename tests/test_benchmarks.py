"""Every benchmark can be imported, and quick keys are found with the smallest numbers, whatever their values."""

import contextlib
import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("*.py")))
def test_a_benchmark_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__doc__


@pytest.mark.slow
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
    share = {"lower": 0.12, "middle": 0.125, "upper": 0.131}
    row = {"placement": "all", "mode": "swappable", "over_base": share}
    rows = [{**row, "rank": rank} for rank in made.RANKS] + [{**row, "rank": 64, "mode": "merged"}]
    rows += [{**row, "rank": rank, "placement": "q_proj,v_proj"} for rank in made.RANKS]
    lines = made.table([{"device": "ort-cpu:threads=1", "rows": rows}]).splitlines()
    cells = " | ".join(["+12.5 % [12.0, 13.1]"] * 4)
    assert lines[2:] == [
        f"| ONNX Runtime fp32, all 210 linears | {cells} |",
        f"| ONNX Runtime fp32, q and v | {cells} |",
    ]


def device_row(phase: str, sites: str, rank: int, **others: object) -> dict[str, object]:
    shares = {"overhead": 0.025, "lower": 0.01, "upper": 0.04, "too_few_openings": 0, "latency_s": 0.02}
    named = {"base": "float32", "mode": "swappable", "phase": phase, "sites": sites, "rank": rank, "origin": "measured"}
    return {**named, **shares, **others}


def test_the_table_of_devices_has_a_line_for_each_phase_and_the_reasons_below() -> None:
    made = importlib.import_module("devices")
    few = device_row("decode", "all", 64) | {"too_few_openings": 2}
    rows = [device_row("decode", "none", 0, mode="base", origin="composed"), device_row("decode", "all", 16), few]
    here = {"name": "phone", "available": True, "why": "", "rows": rows}
    lines = made.table([here, {"name": "gpu", "available": False, "why": "it is not here", "rows": []}]).splitlines()
    assert lines[0] == "| device | phase | base, ms | all, r = 1 | all, r = 16 | all, r = 64 | q+v, r = 16 |"
    assert lines[2:] == [
        "| phone (composed) | decode | 20.0 |  | +2.5 [1.0, 4.0] | +2.5 too few openings: 2 |  |",
        "",
        "- gpu: it is not here",
    ]


def test_a_figure_of_devices_is_drawn(tmp_path: Path) -> None:
    rows = [device_row(phase, "all", rank) for phase in ("prefill", "decode") for rank in (1, 16, 64)]
    importlib.import_module("devices").draw([{"name": "phone", "rows": rows}], tmp_path / "devices.png")
    assert (tmp_path / "devices.png").read_bytes().startswith(b"\x89PNG")


def test_devices_go_on_from_what_was_measured_and_say_why_something_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of one phase, and an error in the other."""
    made = importlib.import_module("devices")
    entry, asked = made.Entry("phone", "ort-native"), []

    def ended(command: list[str], limit_s: float) -> str:
        asked.append(command[2:4])
        if "prefill" in command and len(asked) == 1:
            raise made.StoppedError("the cable was pulled")
        return json.dumps({"rows": [device_row(command[3], "all", 16)], "why": ""})

    monkeypatch.setattr(made, "ended", ended)
    shares = made.Shares(time.monotonic() + 60, 2)
    first, second, third = (made.measured(entry, tmp_path, "tiny-random", shares) for _ in range(3))
    assert asked == [["ort-native", "prefill"], ["ort-native", "decode"], ["ort-native", "prefill"]]
    assert (first["available"], first["why"], len(first["rows"])) == (True, "the cable was pulled", 1)
    assert second == third
    assert (second["why"], [row["phase"] for row in second["rows"]]) == ("", ["prefill", "decode"])


def test_a_device_that_cannot_be_had_is_not_available(tmp_path: Path) -> None:
    made, loopback = importlib.import_module("devices"), importlib.import_module("loopback")

    def absent(folder: Path) -> None:
        raise loopback.AbsentError("adbd is not installed")

    found = made.measured(made.Entry("adb", "ort-native", absent), tmp_path, "tiny-random", made.Shares(0.0, 2))
    assert found == {"name": "adb", "available": False, "why": "adbd is not installed", "rows": []}


def test_the_time_of_all_devices_is_never_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = importlib.import_module("devices")
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(made, "time", SimpleNamespace(monotonic=lambda: now.s))
    shares = made.Shares(1000.0, 10)
    for number in range(10):
        now.s += shares.after(number).most_s()
    assert now.s == pytest.approx(1000.0)


def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    made = importlib.import_module("devices")
    code = f"""import pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({str(tmp_path / "child")!r}).write_text(str(child.pid))
time.sleep(600)"""
    with pytest.raises(made.StoppedError, match="no result within 3 s"):
        made.ended([sys.executable, "-c", code], 3.0)
    child = int((tmp_path / "child").read_text())
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(child).wait(timeout=60)


def test_ways_agree_whose_overheads_lie_in_the_intervals_of_each_other() -> None:
    made = importlib.import_module("agreement")
    rng = np.random.default_rng(0)
    blocks = []
    for _ in range(12):
        block = {way: made.Sample(0.02 * rng.normal(1, 0.01), rng.normal(0.05, 0.01)) for way in made.WAYS}
        block["local-native"] = made.Sample(0.9 * block["local-python"].base_s, 0.2)
        blocks.append(block)
    found = made.summary(blocks)
    inside = {tuple(each["ways"]): each["inside"] for each in found["pairs"]}
    assert not any(inside[pair] for pair in inside if "local-native" in pair)
    assert inside["local-python", "ssh-python"]
    ratio = next(each for each in found["seconds"] if each["ways"] == ["local-native", "local-python"])
    assert ratio["lower"] == pytest.approx(0.9) == ratio["upper"]
    json.dumps(found, allow_nan=False)
    assert (
        made.shown(found).splitlines()[-1]
        == f"{found['agree']} of 10 pairs agree; {found['zero_inside']} differences have 0 inside"
    )
