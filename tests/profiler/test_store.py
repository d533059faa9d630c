import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import IntegrityError

from adaptare.devices import InputError, SimulatedDevice, StorageError
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Store, Workload, profile


def measure(
    shape: ModelShape, ranks: Sequence[int] = (2, 4), device: SimulatedDevice | None = None
) -> list[Measurement]:
    workloads = [Workload(shape, Configuration.uniform(shape, rank)) for rank in ranks]
    target = device or SimulatedDevice()
    return profile(workloads, reference=Workload(shape).base, device=target, stop=FixedRounds(8), seed=0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "adaptare.db"


def test_what_is_read_equals_what_was_written(llama: ModelShape, file: Path) -> None:
    measured = measure(llama)
    Store(file).append(measured)
    assert Store(file).measurements() == measured


def test_widths_are_read_as_they_were_written(llama: ModelShape, file: Path) -> None:
    some = Configuration.of({llama.sites[0].path: 2}, widths={1: 24})
    workloads = [
        Workload(llama, each, graph=graph) for each in (some, some.without_adapter) for graph in ("cut", "open")
    ]
    base = Workload(llama).base
    measured = profile(workloads, reference=base, device=SimulatedDevice(), stop=FixedRounds(8), seed=0)
    store = Store(file)
    store.append(measured)
    assert store.measurements() == measured
    assert store.finished(measured[0].device, base) == {each.hash for each in workloads}
    assert len({each.hash for each in workloads}) == 4


def test_measurements_of_other_devices_stay_apart(llama: ModelShape, file: Path) -> None:
    store, other = Store(file), SimulatedDevice(launch_s=5e-6)
    store.append(measure(llama))
    store.append(measure(llama, (8,), other))
    assert [len(each.workload.configuration.ranks) for each in store.measurements(other.info())] == [14]
    assert len(store.measurements(SimulatedDevice().info())) == 2
    assert len(store.measurements()) == 3


def test_finished_names_what_need_not_be_measured_again(llama: ModelShape, file: Path) -> None:
    first, second = measure(llama)
    store = Store(file)
    store.append([first, replace(second, stopped_by="interrupted")])
    assert store.finished(first.device, first.reference) == {first.workload.hash}


def test_the_newest_calibration_counts(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    first = measure(llama)
    assert store.calibration(first[0].device, first[0].reference) is None
    store.append(first)
    assert store.calibration(first[0].device, first[0].reference) == first[0].reference_s
    store.append([replace(first[0], reference_s=99.0)])
    assert store.calibration(first[0].device, first[0].reference) == 99.0


def test_what_was_interrupted_or_failed_calibrates_nothing(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    first, second = measure(llama)
    store.append([replace(first, stopped_by="interrupted"), replace(second, failure="out of memory")])
    assert store.calibration(first.device, first.reference) is None
    store.append([second])
    assert store.calibration(first.device, first.reference) == second.reference_s


def test_a_shape_is_read_as_it_was_stored(llama: ModelShape, file: Path) -> None:
    """Another version of transformers may have had other settings in a config."""
    config = json.loads(llama.config)
    del config["attention_dropout"]
    before = replace(llama, config=json.dumps(config))
    store, measured = Store(file), measure(before)
    store.append(measured)
    assert [each.workload for each in store.measurements()] == [each.workload for each in measured]


def test_what_is_composed_and_what_is_measured_stay_apart(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    first, second = measure(llama)
    info, base = first.device, first.reference
    store.append([replace(first, origin="composed", reference_s=99.0), second])
    assert store.finished(info, base) == {second.workload.hash}
    assert store.finished(info, base, origin="composed") == {first.workload.hash}
    assert store.calibration(info, base) == second.reference_s
    assert store.calibration(info, base, origin="composed") == 99.0


@pytest.mark.parametrize("change", ["UPDATE measurements SET session = 'x'", "DELETE FROM measurements"])
def test_rows_cannot_be_changed(llama: ModelShape, file: Path, change: str) -> None:
    Store(file).append(measure(llama))
    with create_engine(f"sqlite:///{file}").begin() as connection, pytest.raises(IntegrityError, match="never changed"):
        connection.exec_driver_sql(change)


def test_all_or_nothing_is_added(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    first, second = measure(llama)
    broken = replace(second, environment={"not": {"json"}})
    with pytest.raises(TypeError):
        store.append([first, broken])
    assert store.measurements() == []


def test_refuses_a_newer_schema_and_leaves_it_alone(file: Path) -> None:
    Store(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = '99'")
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"schema 99; this version of adaptare reads up to 2; update it"):
        Store(file)
    assert file.read_bytes() == before


def test_refuses_a_file_that_is_no_database(file: Path) -> None:
    file.write_text("This is a diary, and not a database of anything at all." * 20)
    with pytest.raises(InputError, match="is no adaptare store"):
        Store(file)
    assert file.read_text().startswith("This is a diary")


def test_refuses_a_database_of_something_else(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(InputError, match="database of something else"):
        Store(file)


def test_a_store_that_must_exist_is_not_made(file: Path) -> None:
    with pytest.raises(InputError, match=r"there is no store .*adaptare profile"):
        Store(file, create=False)
    assert not file.exists()


def test_a_store_whose_making_ended_at_any_statement_is_made_again(tmp_path: Path) -> None:
    statements: list[str] = []

    def interrupt(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(statement)
        if len(statements) == last:
            raise KeyboardInterrupt

    event.listen(Engine, "after_cursor_execute", interrupt)
    try:
        for last in range(1, 1000):
            statements.clear()
            try:
                Store(tmp_path / f"{last}.db")
            except KeyboardInterrupt:
                Store(tmp_path / f"{last}.db", create=False).append([])
                continue
            break
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    assert sum("CREATE TABLE" in statement for statement in statements) == 3
    assert last > len(statements) > 10


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        Store(tmp_path / "no" / "such" / "folder" / "adaptare.db")


def test_a_full_disk_loses_nothing(llama: ModelShape, file: Path) -> None:
    """SQLite's own limit on pages stands for the disk: the same error comes from both."""
    store = Store(file)
    store.append(measure(llama))
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    store.close()

    small = Store(file)

    @_on_connect(small)
    def _(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StorageError, match=r"cannot be written: database or disk is full; what it held is intact"):
        _append_again_and_again(small, measure(llama))
    small.close()
    assert len(Store(file).measurements()) >= 2
    assert len(Store(file).measurements()) % 2 == 0


def _append_again_and_again(store: Store, measured: list[Measurement]) -> None:
    for _ in range(50):
        store.append(measured)


def _on_connect(store: Store):  # type: ignore[no-untyped-def]
    from sqlalchemy import event

    store._engine.dispose()
    return event.listens_for(store._engine, "connect")
