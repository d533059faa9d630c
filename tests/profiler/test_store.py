import json
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import IntegrityError, OperationalError

from adaptare.core import InputError, StorageError
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Store, Workload, profile
from adaptare.profiler.store import database as store_module
from adaptare.profiler.store.measurement import Visit


@cache
def measure(
    shape: ModelShape, ranks: Sequence[int] = (2, 4), device: SimulatedDevice | None = None
) -> list[Measurement]:
    workloads = [Workload(shape, Configuration.uniform(shape, rank)) for rank in ranks]
    target = device or SimulatedDevice()
    return profile(workloads, reference=Workload(shape).base, device=target, stop=FixedRounds(8), seed=0)


def slower(measured: Sequence[Measurement], times: float) -> list[Measurement]:
    """The same in another session of a slower device."""

    def scaled(visits: Sequence[Visit]) -> tuple[Visit, ...]:
        return tuple(replace(visit, samples_s=tuple(times * sample for sample in visit.samples_s)) for visit in visits)

    return [
        replace(row, session="slower", visits=scaled(row.visits), reference_visits=scaled(row.reference_visits))
        for row in measured
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "adaptare.db"


def test_what_is_read_equals_what_was_written(llama: ModelShape, file: Path) -> None:
    measured = measure(llama)
    Store(file).append(measured)
    assert Store(file).measurements() == measured


def test_measurements_of_graphs_that_are_open_in_part_are_left_out(llama: ModelShape, file: Path) -> None:
    """Their latency has inputs in it that no configuration names."""
    store = Store(file)
    store.append(measure(llama))
    with sqlite3.connect(file) as connection:
        number, content = connection.execute("SELECT id, content FROM measurements").fetchone()
        changed = json.loads(content)
        changed["workload"]["adapter"] = {llama.sites[0].path: 2, llama.sites[1].path: 0}
        for (trigger,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {trigger}")
        connection.execute("UPDATE measurements SET content = ? WHERE id = ?", (json.dumps(changed), number))
    assert len(store.measurements()) == 1


def test_measurements_of_other_devices_stay_apart(llama: ModelShape, file: Path) -> None:
    store, other = Store(file), SimulatedDevice(launch_s=5e-6)
    store.append(measure(llama))
    store.append(measure(llama, (8,), other))
    assert [len(each.workload.configuration.ranks) for each in store.measurements(other.info())] == [14]
    assert len(store.measurements(SimulatedDevice().info())) == 2
    assert len(store.measurements()) == 3


def test_what_was_interrupted_or_failed_is_not_finished_and_calibrates_nothing(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    first, second = measure(llama)
    store.append([replace(first, stopped_by="interrupted"), replace(second, failure="out of memory")])
    assert store.calibration(first.device, first.reference) is None
    store.append([second])
    assert store.calibration(first.device, first.reference) == second.reference_s
    assert store.finished(first.device, first.reference) == {second.workload.hash}


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
    store.append([*slower([replace(first, origin="composed")], 2.0), second])
    assert store.finished(info, base) == {second.workload.hash}
    assert store.finished(info, base, origin="composed") == {first.workload.hash}
    assert store.calibration(info, base) == second.reference_s
    assert store.calibration(info, base, origin="composed") == 2 * first.reference_s


def test_rows_cannot_be_changed(llama: ModelShape, file: Path) -> None:
    Store(file).append(measure(llama))
    with create_engine(f"sqlite:///{file}").begin() as connection:
        for change in ("UPDATE measurements SET session = 'x'", "DELETE FROM measurements"):
            with pytest.raises(IntegrityError, match="never changed"):
                connection.exec_driver_sql(change)


def test_all_or_nothing_is_added(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    first, second = measure(llama)
    broken = replace(second, environment={"not": object()})
    with pytest.raises(TypeError):
        store.append([first, broken])
    assert store.measurements() == []


def test_refuses_a_newer_schema_and_leaves_it_alone(file: Path) -> None:
    Store(file).close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = '99'")
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"schema 99; this version of adaptare reads up to 3; update it"):
        Store(file)
    assert file.read_bytes() == before


def test_refuses_what_is_no_database_or_one_of_something_else(file: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary.db"
    diary.write_text("This is a diary, and not a database of anything at all." * 20)
    with pytest.raises(InputError, match="is not a store of adaptare"):
        Store(diary)
    assert diary.read_text().startswith("This is a diary")
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(InputError, match="database of something else"):
        Store(file)


@pytest.mark.parametrize(("prefix", "create"), [("", True), ("sqlite:///", False)])
def test_an_empty_file_is_no_store_and_stays_empty(file: Path, prefix: str, create: bool) -> None:
    file.touch()
    with pytest.raises(InputError, match=r"is an empty file and no store; remove it or name another"):
        Store(f"{prefix}{file}", create=create)
    assert file.stat().st_size == 0


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "nothing://user:secret@host/name",
            r"'nothing://user:\*\*\*@host/name' is .*: there is no such kind",
        ),
        ("postgresql://user@host:port/name", r"is no database URL; one reads, for example, postgresql\+psycopg://"),
        ("://", "is no database URL"),
        ("mysql+nodriver://user@host/name", "there is no such kind of database"),
    ],
)
def test_a_database_that_cannot_be_reached_is_told_in_plain_words(place: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        Store(place)
    assert not any(word in str(refusal.value).lower() for word in ("sqlalchemy", "sqlalche.me", "plugin", "literal"))


def test_a_damaged_store_is_told_as_one(llama: ModelShape, file: Path) -> None:
    store = Store(file)
    store.append(measure(llama))
    store.close()
    content = bytearray(file.read_bytes())
    content[len(content) // 3 :] = b"\x07" * (len(content) - len(content) // 3)
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"cannot be read: database disk image is malformed; restore a copy"):
        Store(file).measurements()


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
                made = [file.name for file in tmp_path.iterdir() if file.name.startswith(f"{last}.db")]
                assert made in ([], [f"{last}.db"])  # nothing, or all of it
                assert Store(tmp_path / f"{last}.db").measurements() == []
                continue
            break
    finally:
        event.remove(Engine, "after_cursor_execute", interrupt)
    assert sum("CREATE TABLE" in statement for statement in statements) == 3
    assert last > len(statements) > 10


def test_two_processes_that_make_a_store_at_once_make_one(
    llama: ModelShape, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_place = store_module._take_place

    def too_late(fresh: Path, target: Path) -> None:
        monkeypatch.undo()
        Store(target).append(measure(llama))
        take_place(fresh, target)

    monkeypatch.setattr(store_module, "_take_place", too_late)
    assert len(Store(file).measurements()) == 2
    assert [each.name for each in file.parent.glob("*.new-*")] == []


def test_a_folder_or_server_that_cannot_be_reached_is_to_be_checked(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        Store(tmp_path / "no" / "such" / "folder" / "adaptare.db")
    pytest.importorskip("psycopg", reason="the driver of PostgreSQL is not installed")
    with pytest.raises(StorageError, match=r"refused.*; check the URL and the server"):
        Store("postgresql+psycopg://user@127.0.0.1:1/adaptare")


def test_a_full_disk_loses_nothing(llama: ModelShape, file: Path) -> None:
    """SQLite's own limit on pages stands for the disk: the same error comes from both."""
    store = Store(file)
    store.append(measure(llama))
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    store.close()

    small = Store(file)

    small._engine.dispose()

    @event.listens_for(small._engine, "connect")
    def _(connection: sqlite3.Connection, record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")

    for _ in range(50):
        try:
            small.append(measure(llama))
        except StorageError as error:
            told = str(error)
            break
    assert "cannot be written: database or disk is full; what it held is intact" in told
    small.close()
    assert len(Store(file).measurements()) >= 2
    assert len(Store(file).measurements()) % 2 == 0


@pytest.mark.parametrize("place", [":memory:", "sqlite:///:memory:", "sqlite://"])
def test_a_store_in_memory_is_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a database in memory, which would be lost; name a file"):
        Store(place)
    assert not list(tmp_path.iterdir())


def test_reading_makes_no_store(file: Path) -> None:
    with pytest.raises(InputError, match=r"there is no store .*measure something first"):
        Store(file, create=False)
    assert not file.exists()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA user_version = 1")
    before = file.read_bytes()
    with pytest.raises(InputError, match=r"there is no store .*measure something first"):
        Store(file, create=False)
    assert file.read_bytes() == before


def test_a_store_in_a_folder_that_cannot_be_written_is_read(
    llama: ModelShape, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise SQLite makes files beside it, as it was written ahead."""
    file = tmp_path / "a folder" / "50 % of it?.db"
    file.parent.mkdir()
    measured = measure(llama)
    writing = Store(file)
    writing.append(measured)
    writing.close()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    reading = Store(file, create=False)
    with reading._reading() as connection:
        assert [each.name for each in file.parent.iterdir()] == [file.name]
        with pytest.raises(OperationalError, match="readonly"):
            connection.exec_driver_sql("CREATE TABLE other (name TEXT)")
    assert list(reading.measurements()) == measured


def test_a_store_that_is_being_written_is_read_with_what_is_beside_it(
    llama: ModelShape, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = measure(llama)
    writing = Store(file)
    writing.append(measured)
    assert file.with_name(f"{file.name}-wal").exists()
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert list(Store(file, create=False).measurements()) == measured
