"""Rows that another installation has written are told as such, and a salvage keeps them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from installing import installed
from toy_dimension import HEADS

from adaptare.core import InputError
from adaptare.core.content_hash import content_hash
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Store, Workload, profile
from adaptare.profiler.store import salvage

HAND_MADE = ModelShape("llama", 2, 64, 4, 2, 16, 128, 256, "{}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "adaptare.db"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with an installed package that registers a kind of dimension."""
    return installed(tmp_path / "packages", "adaptare.dimensions", "kv_groups = toy_dimension:HEADS")


def measure(shape: ModelShape, *configurations: Configuration) -> list[Measurement]:
    workloads = [Workload(shape, each) for each in configurations]
    return profile(
        workloads, reference=Workload(shape).base, device=SimulatedDevice(), stop=FixedRounds(8), openings=1, seed=0
    )


def read(file: Path) -> list[Measurement]:
    with closing(Store(file, create=False)) as store:
        return list(store.measurements())


def change(file: Path, content: dict[str, object], *, workload: str = "") -> None:
    """Replaces the content of the second row, and the hash of its workload if one is given."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER measurements_no_update")
        connection.execute("UPDATE measurements SET content = ? WHERE id = 2", (json.dumps(content),))
        if workload:
            connection.execute("UPDATE measurements SET workload = ? WHERE id = 2", (workload,))


def content_of(file: Path) -> dict[str, object]:
    with closing(sqlite3.connect(file)) as connection:
        return json.loads(connection.execute("SELECT content FROM measurements WHERE id = 2").fetchone()[0])


def test_a_row_with_a_dimension_of_a_package_that_is_not_here_is_kept(
    llama: ModelShape, file: Path, package: Path, tmp_path: Path
) -> None:
    plain = Configuration.uniform(llama, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        measured = measure(llama, plain, Configuration.of({}, others={HEADS(0): 1}), Configuration.uniform(llama, 4))
        with closing(Store(file)) as store:
            store.append(measured)
    told = r"measurement 2 cannot be interpreted by this installation \(unknown kind of dimension 'kv_groups'.*install"
    with pytest.raises(InputError, match=told):
        read(file)
    result = salvage(file, tmp_path / "rescued.db")
    assert (result.kept, result.lost, list(result.uninterpreted)) == (3, {}, [2])
    with pytest.raises(InputError, match=told):
        read(tmp_path / "rescued.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        assert read(tmp_path / "rescued.db") == read(file) == measured


def test_a_row_of_a_model_that_is_not_known_here_is_kept(llama: ModelShape, file: Path, tmp_path: Path) -> None:
    with closing(Store(file)) as store:
        store.append(measure(llama, Configuration.uniform(llama, 2), Configuration.uniform(llama, 4)))
    later = ModelShape("later", 2, 64, 4, 2, 16, 128, 256, '{"model_type":"later"}')
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO shapes VALUES (?, ?)", (later.hash, later.config))
    content = content_of(file)
    workload = {**content["workload"], "shape": later.hash}  # type: ignore[dict-item]
    change(file, {**content, "workload": workload}, workload=content_hash(workload))
    with pytest.raises(InputError, match=r"measurement 2 cannot be interpreted .*family 'later' is not supported"):
        read(file)
    result = salvage(file, tmp_path / "rescued.db")
    assert (result.kept, result.lost, list(result.uninterpreted)) == (2, {}, [2])
    assert content_of(tmp_path / "rescued.db") == content_of(file)


def test_a_row_whose_workload_was_changed_is_lost(llama: ModelShape, file: Path, tmp_path: Path) -> None:
    measured = measure(llama, Configuration.uniform(llama, 2), Configuration.uniform(llama, 4))
    with closing(Store(file)) as store:
        store.append(measured)
    content = content_of(file)
    change(file, {**content, "workload": {**content["workload"], "mode": "mergedd"}})  # type: ignore[dict-item]
    result = salvage(file, tmp_path / "rescued.db")
    assert (result.kept, list(result.lost), result.uninterpreted) == (1, [2], {})
    assert read(tmp_path / "rescued.db") == measured[:1]


def test_a_measurement_that_could_not_be_read_back_is_not_added(llama: ModelShape, file: Path) -> None:
    good, wrong = measure(llama, Configuration.uniform(llama, 2)), measure(HAND_MADE, Configuration.uniform(llama, 2))
    with closing(Store(file)) as store:
        with pytest.raises(InputError, match=r"could not be read back .*no model_type.*take its shape from a model"):
            store.append([*good, *wrong])
        assert store.measurements() == []
        store.append(good)
        assert store.measurements() == good
