"""The benchmark of the recipes, whole, on a tiny model and with the smallest numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import recipes


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    for task in recipes.TASKS:
        (tmp_path / task).mkdir()
        rows = [
            {"instruction": f"Add {a} and {b} in {task}", "input": "", "output": str(a + b), "answer": ""}
            for a in range(12)
            for b in range(6)
        ]
        (tmp_path / task / "train.json").write_text(json.dumps(rows), encoding="utf-8")
    words = ["--data", str(tmp_path), "--folder", str(tmp_path / "work"), "--model", "tiny-random", "--json"]
    return [*words, "--steps", "2", "--rows", "8", "--evaluations", "3", "--seconds", "0"]


def run(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["recipes.py", *words])
    recipes.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.slow
def test_a_recipe_is_measured_and_kept(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*words, "--only", "sqft-sparsepeft"], monkeypatch, capsys)["sqft-sparsepeft"]
    assert set(found["losses"]) == {"minimal", "start", "searched", "maximal", "untrained", "plain LoRA"}
    for each in found["losses"].values():
        middle, lower, upper = each["loss"]
        assert 0 < lower <= middle <= upper
    assert found["losses"]["plain LoRA"]["difference"] == [0, 0, 0]
    assert found["zeros_after_merge"] == 0.5
    assert set(found["steps"]) == {"sqft-sparsepeft", "peft"}
    monkeypatch.setattr(recipes, "recipe_part", None)
    assert run([*words, "--only", "sqft-sparsepeft"], monkeypatch, capsys)["sqft-sparsepeft"] == found


def test_three_ways_to_four_bits_are_side_by_side(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = run([*words, "--only", "int4"], monkeypatch, capsys)["int4"]
    assert [(row["rank"], row["steps"]) for row in rows] == [(rank, steps) for steps in (1, 2) for rank in (8, 16, 32)]
    for row in rows:
        assert set(row["losses"]) == {"unmerged", "requantised", "quantisation-aware", "untrained"}
    assert "| int4, rank 8, 1 steps | unmerged |" in recipes.table({"int4": rows})


def test_missing_data_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="3"):
        recipes.read_rows(tmp_path / "train.json")
    assert "--data names a folder with ARC-Easy and boolq" in capsys.readouterr().err
