"""The commands of data sets, from a profile to a table of costs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, ModelShape, Store, Workload, profile


def test_a_profile_becomes_a_valid_data_set(
    shares_of: Callable[..., list[int]], run: Callable[..., Any], model_cache: Path, tmp_path: Path
) -> None:
    words = ("overhead", "tiny-random", "--device", "simulated", "--rank", "4,8", "-p", 0, "--seconds", 0.1)
    assert run(*words, "--cache", model_cache).code == 0
    written = run("dataset", "export", "adaptare.db", "-o", "set", "--cost-table", "costs.csv", "--json")
    assert written.code == 0, written.err
    assert written.json["rows"] == 3
    assert written.json["devices"] == ["simulated"]
    assert len((tmp_path / "costs.csv").read_text().splitlines()) == 6  # heading, and a base for each of two modes
    for task in ("reading", "exporting"):
        assert shares_of(written, task)
    valid = run("dataset", "validate", "set")
    assert valid.out == "set is valid\n"
    assert shares_of(valid, "validating")
    merged = run("dataset", "merge", "set", "set", "-o", "both")
    assert merged.code == 0
    assert "3 rows came more than once" in merged.err
    assert shares_of(merged, "merging")
    (tmp_path / "set" / "README.md").write_text("# no header\n")
    invalid = run("dataset", "validate", "set")
    assert invalid.code == 1
    assert "README.md" in invalid.out
    assert run("dataset", "validate", "set", "--json").json["faults"][0]["row"] == 0


def test_a_wrong_table_of_costs_is_refused_before_anything_is_written(run: Callable[..., Any], tmp_path: Path) -> None:
    answer = run("dataset", "export", "adaptare.db", "-o", "set", "--cost-table", "costs.xlsx")
    assert answer.code == 2
    assert "written as .csv or .json" in answer.err
    assert not (tmp_path / "set").exists()


def test_a_table_of_costs_without_rows_is_refused_before_anything_is_written(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    shape = ModelShape.from_mapping({"model_type": "llama", "intermediate_size": 48, "vocab_size": 64, **sizes})
    first, second = shape.sites[:2]
    mixed = Workload(shape, Configuration.of({first.path: 4, second.path: 8}))
    rows = profile([mixed], reference=mixed.base, device=SimulatedDevice(), stop=FixedRounds(4), seed=0, openings=4)
    Store(tmp_path / "adaptare.db").append(rows)
    answer = run("dataset", "export", "adaptare.db", "-o", "set", "--cost-table", "costs.csv")
    assert answer.code == 2
    assert "no measured adapter has one rank on all its linears" in answer.err
    assert not (tmp_path / "set").exists()
    assert run("dataset", "export", "adaptare.db", "-o", "set").code == 0
