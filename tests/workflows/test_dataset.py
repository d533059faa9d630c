"""Data sets: what is written, what is invalid in which row and column, what is merged, and the table of costs."""

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Store, Workload, profile
from adaptare.workflows.dataset.cost_table import costs_of, write_costs
from adaptare.workflows.dataset.files import CARD, DATA, export_dataset, faults_of, merge_datasets, read_rows
from adaptare.workflows.dataset.rows import SCHEMA, identity, public_spelling, row_of

CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
CONFIG |= {"num_key_value_heads": 2, "intermediate_size": 48, "vocab_size": 64}
SHAPE = ModelShape.from_mapping(CONFIG)
RANKS = (4, 16)


def measured(seed: int = 0) -> list[Measurement]:
    """Two ranks on all linears and on one kind, and one narrower model with unequal ranks."""
    kinds: list[tuple[str, ...]] = [(), ("q_proj",)]
    uniform = [Configuration.uniform(SHAPE, rank, kinds=own) for own in kinds for rank in RANKS]
    paths = [site.path for site in SHAPE.sites]
    mixed = Configuration.of({paths[0]: 4, paths[1]: 8}, widths={0: 24})
    workloads = [Workload(SHAPE, each) for each in (*uniform, mixed)]
    rule = FixedRounds(4)
    return profile(
        workloads, reference=Workload(SHAPE).base, device=SimulatedDevice(), stop=rule, seed=seed, openings=3
    )


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two stores of one session each."""
    folder = tmp_path_factory.mktemp("stores")
    for name in ("one.db", "two.db"):
        Store(folder / name).append(measured())
    return str(folder / "one.db"), str(folder / "two.db")


@pytest.fixture
def folder(stores: tuple[str, str], tmp_path: Path) -> Path:
    """A valid data set."""
    export_dataset(stores[:1], tmp_path / "set", licence="cc-by-4.0", title="A set")
    return tmp_path / "set"


def test_a_row_has_all_samples_and_the_workload_is_rebuilt(folder: Path, stores: tuple[str, str]) -> None:
    own = Store(stores[0]).measurements()
    rows = read_rows(folder)
    assert len(rows) == len(own) == 5
    for row, measurement in zip(rows, own, strict=True):
        assert row["samples_s"] == [list(visit.samples_s) for visit in measurement.visits]
        assert row["reference_samples_s"] == [list(visit.samples_s) for visit in measurement.reference_visits]
        assert (row["latency_s"], row["overhead"]) == (measurement.latency_s, measurement.overhead.middle)
        assert {each["site"]: each["rank"] for each in row["ranks"]} == measurement.workload.configuration.by_path
        shape = ModelShape.from_mapping(json.loads(row["config"]))
        assert Workload.from_json(json.loads(row["workload"]), shape) == measurement.workload
    assert rows[-1]["widths"] == [{"layer": 0, "width": 24}]


def test_an_export_is_valid_and_its_card_has_the_header_of_the_hub(folder: Path) -> None:
    assert list(faults_of(folder)) == []
    card = (folder / CARD).read_text()
    header = yaml.safe_load(card.split("---\n")[1])
    assert header["license"] == "cc-by-4.0"
    assert header["configs"] == [{"config_name": "default", "data_files": DATA}]
    assert header["size_categories"] == ["n<1K"]
    assert "# A set" in card
    assert all(f"| {name} |" in card for name in SCHEMA.names)
    assert pq.read_schema(folder / DATA).field("latency_s").metadata == {b"unit": b"s"}


def rewritten(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Changes rows of a data set, and their hashes with them."""
    rows = read_rows(folder)
    change(rows)
    for row in rows:
        row["id"] = identity(row)
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / DATA)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("latency_s", 0.0, "must be above 0 s, not 0"),
        ("latency_s", 99.0, "must lie between lower_s and upper_s"),
        ("threads", 0, "must be at least 1, not 0"),
        ("samples_s", [[]], "must have an entry for each of the"),
        ("ranks", [{"site": "a", "rank": 4}] * 2, "must name each site once"),
        ("hardware", None, "is missing"),
    ],
)
def test_a_wrong_value_is_named_by_its_row_and_column(folder: Path, column: str, value: object, problem: str) -> None:
    rewritten(folder, lambda rows: rows[2].update({column: value}))
    faults = list(faults_of(folder))
    assert {(fault.row, fault.column) for fault in faults} == {(3, column)}
    assert problem in faults[0].problem


def test_a_changed_row_is_found_by_its_hash(folder: Path) -> None:
    rows = read_rows(folder)
    rows[0]["load_s"] = 123.0
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / DATA)
    (fault,) = faults_of(folder)
    assert (fault.row, fault.column) == (1, "id")
    assert "the row was changed" in fault.problem


def test_wrong_columns_types_and_units_are_named(folder: Path) -> None:
    table = pq.read_table(folder / DATA).drop_columns(["phase"]).append_column("extra", [["x"] * 5])
    milliseconds = pa.field("latency_s", pa.float64(), metadata={"unit": "ms"})
    table = table.set_column(table.schema.get_field_index("latency_s"), milliseconds, table["latency_s"])
    threads = table.schema.get_field_index("threads")
    table = table.set_column(threads, "threads", table["threads"].cast(pa.string()))
    pq.write_table(table, folder / DATA)
    assert {(fault.row, fault.column): fault.problem for fault in faults_of(folder)} == {
        (0, "phase"): "is missing; it is of type string",
        (0, "threads"): "must be of type int32, not string",
        (0, "latency_s"): "must have the unit 's', not 'ms'",
        (0, "extra"): "is not a column of this schema",
    }


@pytest.mark.parametrize(
    ("card", "problem"),
    [(None, "cannot be read"), ("# A set\n", "must begin with a header"), ("---\na: 1\n---\n", "must have license")],
)
def test_a_card_without_its_header_is_a_fault(folder: Path, card: str | None, problem: str) -> None:
    (folder / CARD).unlink() if card is None else (folder / CARD).write_text(card)
    (fault,) = faults_of(folder)
    assert (fault.row, fault.column) == (0, CARD)
    assert problem in fault.problem


def test_a_data_set_without_rows_is_refused(folder: Path, tmp_path: Path) -> None:
    rewritten(folder, list.clear)
    (fault,) = faults_of(folder)
    assert (fault.row, fault.column, fault.problem) == (0, DATA, "has no rows")
    with pytest.raises(InputError, match=f"is not valid: 1 fault, the first in {DATA}, which has no rows"):
        merge_datasets([folder, folder], tmp_path / "both")


def test_merging_writes_equal_rows_once(folder: Path, stores: tuple[str, str], tmp_path: Path) -> None:
    export_dataset(stores[1:], tmp_path / "other")
    merged = merge_datasets([folder, folder, tmp_path / "other"], tmp_path / "both")
    assert (merged.rows, merged.sessions, merged.duplicates) == (10, 2, 5)
    assert list(faults_of(tmp_path / "both")) == []
    rewritten(folder, lambda rows: rows[2].update(threads=0))
    with pytest.raises(InputError, match="is not valid: 1 fault, the first in row 3, column threads"):
        merge_datasets([folder], tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no data set"):
        list(faults_of(tmp_path / "absent"))
    (tmp_path / DATA).write_text("not Parquet")
    with pytest.raises(InputError, match="is no data set"):
        read_rows(tmp_path)
    Store(tmp_path / "empty.db")
    with pytest.raises(InputError, match="no complete measurement of a whole model"):
        export_dataset([str(tmp_path / "empty.db")], tmp_path / "set")


@pytest.mark.parametrize(
    ("device", "public"),
    [
        ("ort-cpu:int4,threads=2", "ort-cpu:int4,threads=2"),
        ("ssh://me@[2001:db8::7]:22/ort-cpu:threads=4", "ssh/ort-cpu:threads=4"),
        ("ssh://[fe80::1%eth0]/ort-cpu", "ssh/ort-cpu"),
        ("adb:R5CT30ABC/ort-mobile", "adb/ort-mobile"),
        ("ssh://board/llama-cpu:file=models/a.gguf,threads=2", "ssh/llama-cpu:file=a.gguf,threads=2"),
    ],
)
def test_addresses_and_paths_stay_private(device: str, public: str) -> None:
    assert public_spelling(device) == public


def test_folders_in_variables_of_the_environment_stay_private() -> None:
    variables = {"LD_LIBRARY_PATH": "/opt/My files/lib:/opt/own", "OMP_PLACES": "{0:4}", "OMP_NUM_THREADS": "1"}
    [row] = measured()[:1]
    public = json.loads(row_of(replace(row, environment={"before": {"variables": variables}}))["environment"])
    kept = {"LD_LIBRARY_PATH": "lib:own", "OMP_PLACES": "{0:4}", "OMP_NUM_THREADS": "1"}
    assert public == {"before": {"variables": kept}}


def test_a_measurement_without_an_interval_is_left_out(tmp_path: Path) -> None:
    workload = Workload(SHAPE, Configuration.uniform(SHAPE, 4))
    once = profile([workload], reference=workload.base, device=SimulatedDevice(), stop=FixedRounds(1), seed=0)
    assert math.isinf(once[0].overhead.upper)
    Store(tmp_path / "one.db").append([*once, *measured()])
    written = export_dataset([str(tmp_path / "one.db")], tmp_path / "set")
    assert (written.rows, written.left_out) == (5, 1)
    assert [fault.column for fault in faults_of(tmp_path / "set")] == []


def test_composed_and_measured_costs_are_different_rows(folder: Path) -> None:
    rows = read_rows(folder)
    composed = [{**row, "origin": "composed", "latency_s": 2 * row["latency_s"]} for row in rows]
    costs = costs_of([*rows, *composed])
    assert [cost["seconds"] for cost in costs if cost["origin"] == "measured"] == [
        cost["seconds"] for cost in costs_of(rows)
    ]


def test_the_table_of_costs_has_the_base_and_each_rank_by_number_of_linears(folder: Path, tmp_path: Path) -> None:
    rows = read_rows(folder)
    costs = costs_of(rows)
    linears = len(SHAPE.sites)
    assert [(cost["linears"], cost["rank"]) for cost in costs] == [(0, 0), (2, 4), (2, 16), (linears, 4), (linears, 16)]
    assert costs[0]["seconds"] == costs[0]["base_s"] == rows[0]["reference_s"]
    assert costs[-1]["seconds"] == rows[1]["latency_s"]
    assert costs[-1]["overhead"] > costs[1]["overhead"] > 0
    write_costs(costs, tmp_path / "costs.csv")
    write_costs(costs, tmp_path / "costs.json")
    with (tmp_path / "costs.csv").open() as file:
        table = list(csv.DictReader(file))
    content = json.loads((tmp_path / "costs.json").read_text())
    assert [float(row["seconds"]) for row in table] == [cost["seconds"] for cost in costs]
    assert [row["seconds"] for row in content["costs"]] == [cost["seconds"] for cost in costs]
    assert content["units"]["seconds"] == "s"
    with pytest.raises(InputError, match=r"written as \.csv or \.json"):
        write_costs(costs, tmp_path / "costs.xlsx")
    with pytest.raises(InputError, match="no measured adapter has one rank on all its linears"):
        costs_of(rows[-1:])


def test_the_published_data_set_is_valid() -> None:
    assert list(faults_of(Path(__file__).parents[2] / "docs" / "dataset")) == []
