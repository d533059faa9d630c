"""The benchmark of the recipes, whole, on a tiny model and with the smallest numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import recipe_latency
import recipe_tasks
import recipes

from adaptare.core import InputError
from adaptare.profiler import Configuration


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"Add {a} and {b}", "answer": f"<<{a}+{b}>>{a + b}"} for a in range(12) for b in range(6)]
    for file in (recipe_tasks.TRAINING, recipe_tasks.TEST):
        (tmp_path / file).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    words = ["--data", str(tmp_path), "--folder", str(tmp_path / "work"), "--model", "tiny-random", "--json"]
    return [*words, "--steps", "2", "--rows", "8", "--evaluations", "3", "--seconds", "0"]


def run(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    monkeypatch.setattr("sys.argv", ["recipes.py", *words])
    recipes.main()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def any_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps teach a tiny model nothing."""
    monkeypatch.setattr(recipes, "check_signal", lambda *arguments: None)


RECIPE_LOSSES = {"minimal", "start", "searched", "maximal", "untrained", "plain LoRA", "constant"}


def check(losses: dict[str, Any], beside: str) -> None:
    for each in losses.values():
        middle, lower, upper = each["loss"]
        assert 0 < lower <= middle <= upper
    assert losses[beside]["difference"] == [0, 0, 0]


@pytest.mark.usefixtures("any_task")
@pytest.mark.slow
def test_a_merged_recipe_is_measured_and_kept(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*words, "--only", "sqft-sparsepeft"], monkeypatch, capsys)["sqft-sparsepeft"]
    losses = found["losses"]
    assert set(losses) == {*RECIPE_LOSSES, "start, merged", "searched, merged"}
    check(losses, "plain LoRA")
    assert losses["start, merged"]["loss"] == pytest.approx(losses["start"]["loss"], rel=1e-5)
    assert {each["zeros_after_merge"] for each in found["weights"].values()} == {0.5}
    assert set(found["steps"]) == {"sqft-sparsepeft", "peft"}
    monkeypatch.setattr(recipes, "recipe_part", None)
    assert run([*words, "--only", "sqft-sparsepeft"], monkeypatch, capsys)["sqft-sparsepeft"] == found


@pytest.mark.usefixtures("any_task")
@pytest.mark.slow
def test_recipes_of_one_base_share_it_and_its_plain_lora(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes, "step_cost", lambda *arguments: None)
    found = run([*words, "--only", "shears", "sqft-sparse"], monkeypatch, capsys)
    assert found["shears"]["losses"]["plain LoRA"] == found["sqft-sparse"]["losses"]["plain LoRA"]
    assert found["shears"]["weights"]["start"]["zeros_after_merge"] is None
    assert set(found["shears"]["losses"]) == RECIPE_LOSSES


@pytest.mark.usefixtures("any_task")
@pytest.mark.slow
@pytest.mark.parametrize("name", ["lonas", "subnet"])
def test_widths_are_searched_at_the_size_of_the_start(
    words: list[str], name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run([*words, "--only", name], monkeypatch, capsys)[name]
    merged = {f"{each}, {form}" for each in ("start", "searched") for form in ("merged", "requantised")}
    assert set(found["losses"]) == {*RECIPE_LOSSES, *merged, "start, untrained"}
    check(found["losses"], "plain LoRA")
    for each in ("start", "searched"):
        assert found["losses"][f"{each}, merged"]["loss"] == pytest.approx(found["losses"][each]["loss"], rel=1e-5)
    sizes = {each: weights["base_parameters"] for each, weights in found["weights"].items()}
    assert sizes["minimal"] < sizes["searched"] <= sizes["start"] < sizes["maximal"]


@pytest.mark.slow
def test_three_ways_to_four_bits_are_side_by_side(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    part = run([*words, "--only", "int4"], monkeypatch, capsys)["int4"]
    rows = part["table"]
    cells = [(block, steps, rank) for block in (32, 128) for steps in (1, 2) for rank in (8, 16, 32)]
    assert [(row["block"], row["steps"], row["rank"]) for row in rows] == cells
    for row in rows:
        assert set(row["losses"]) == {"unmerged", "requantised", "quantisation-aware", "untrained", "constant"}
        check(row["losses"], "unmerged")
    assert rows[0]["losses"]["untrained"] != rows[-1]["losses"]["untrained"]
    assert "| int4, blocks of 128, rank 8, 1 steps | unmerged |" in recipes.table({"int4": part})


@pytest.mark.slow
def test_latency_is_that_of_each_mode_beside_the_base(tmp_path: Path) -> None:
    shape = recipes.open_model("tiny-random").shape
    narrow = Configuration.of(dict(Configuration.uniform(shape, 2).ranks), widths={0: shape.intermediate // 2})
    rows = recipe_latency.latency_rows(
        "tiny-random",
        {"narrow": narrow},
        apart=True,
        merged=True,
        devices=[recipe_latency.INT4_DEVICE],
        seconds=0.1,
        store=tmp_path / "latency.db",
    )
    modes = ("swappable", "static", "requantised")
    assert [(row["phase"], row["mode"]) for row in rows] == [
        (phase, mode) for phase in ("prefill", "decode") for mode in modes
    ]
    for row in rows:
        middle, lower, upper = row["overhead"]
        assert lower <= middle <= upper
    table = recipes.table({"lonas": {"losses": {}, "latency": rows}})
    assert f"| lonas | narrow | {recipe_latency.INT4_DEVICE} | decode | requantised |" in table


def ratio_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row without its seconds, which are on the scale of the newest calibration of the device."""
    return {name: value for name, value in row.items() if name not in ("base_s", "latency_s")}


@pytest.mark.slow
def test_latencies_of_an_earlier_run_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = recipes.open_model("tiny-random").shape
    searched = {"ranks": {shape.sites[0].path: 32}, "widths": {"0": shape.intermediate // 2}}
    before = {
        name: {"settings": {}, "found": {"searched": searched, "weights": {"start": {"zeros_after_merge": zeros}}}}
        for name, zeros in (("shears", None), ("sqft-sparsepeft", 0.5), ("lonas", 0.0), ("int4", 0.0))
    }
    before["lonas, seed 1"] = {"settings": {}, "found": {}}
    (tmp_path / "before.json").write_text(json.dumps(before), encoding="utf-8")
    words = [tmp_path / "before.json", "--model", "tiny-random", "--seconds", 0.02, "--store", tmp_path / "kept.db"]
    monkeypatch.setattr("sys.argv", ["recipe_latency.py", *map(str, words)])
    recipe_latency.main()
    shown = capsys.readouterr().out
    (tmp_path / "before.json").write_text(shown, encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["recipe_latency.py", *map(str, words), "--device", recipe_latency.DEVICES[1]])
    recipe_latency.main()
    again, after = json.loads(capsys.readouterr().out), json.loads(shown)
    for name in ("shears", "lonas", "int4"):
        rows, kept = (sorted(map(str, map(ratio_of, each[name]["found"]["latency"]))) for each in (again, after))
        assert rows == kept, "one device is measured again, and its store has the same ratios"
    assert after.pop("lonas, seed 1") == before.pop("lonas, seed 1")
    on = {"torch": recipe_latency.DEVICES[0], "ort": recipe_latency.DEVICES[1], "int4": recipe_latency.INT4_DEVICE}
    timed = {
        name: {(row["of"], row["mode"]) for row in part["found"].pop("latency") if row["device"] == on[device]}
        for (name, part), device in zip(after.items(), ("int4", "torch", "torch", "int4"), strict=True)
    }
    assert after == before
    both = {"start", "searched"}
    assert timed == {
        "shears": {("start", "swappable"), ("start", "static")},
        "sqft-sparsepeft": {("start", "merged")},
        "lonas": {(of, mode) for of in both for mode in ("swappable", "merged")},
        "int4": {(f"rank {r}", m) for r in (8, 16, 32) for m in ("swappable", "static", "requantised")},
    }


def test_missing_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--data names a folder with gsm8k/train\.jsonl and gsm8k/test\.jsonl"):
        recipe_tasks.read_examples(tmp_path, recipe_tasks.TRAINING)


def test_a_task_on_which_training_does_not_help_is_refused(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["recipes.py", *words, "--only", "shears"])
    with pytest.raises(InputError, match="a plain LoRA is not better than frequencies of tokens"):
        recipes.main()
