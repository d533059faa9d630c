"""Stores that several processes write at once: SQLite, and PostgreSQL by its URL."""

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from adaptare.core import StorageError
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, Measurement, ModelShape, Store, Workload, profile
from adaptare.profiler.measuring.stopping import FixedRounds
from adaptare.profiler.store import database as store_module

WRITERS, TIMES = 3, 5
SERVER = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
# Appends the measurements of one store to another, again and again.
WRITER = """
import sys
from adaptare.profiler import Store
measured = Store(sys.argv[1]).measurements()
for _ in range(int(sys.argv[3])):
    Store(sys.argv[2]).append(measured)
"""


def as_postgres(*command: object) -> list[str]:
    """The command as the user that may run a server: root may not."""
    words = [str(word) for word in command]
    return words if os.getuid() else ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *words]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """URL of a server of our own, which listens on no port."""
    if SERVER is None:
        pytest.skip("Debian's postgresql is not installed")
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    # The path of a socket may have 107 bytes, and another user must reach it.
    place = Path(tempfile.mkdtemp(prefix="adaptare-pg-", dir="/tmp"))
    if not os.getuid():
        shutil.chown(place, "postgres")

    def run(program: str, *words: object) -> None:
        command = as_postgres(SERVER / program, "-D", place / "data", *words)
        subprocess.run(command, check=True, cwd=place, stdout=subprocess.DEVNULL)

    try:
        run("initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-locale")
        options = f"-k {place} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-w", "-t", 300, "-o", options, "-l", place / "log", "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={place}"
        finally:
            run("pg_ctl", "-w", "-t", 300, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def database(postgresql: str) -> str:
    """URL of an empty database."""
    engine = create_engine(postgresql, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS adaptare WITH (FORCE)")
        connection.exec_driver_sql("CREATE DATABASE adaptare")
    engine.dispose()
    return postgresql.replace("/postgres?", "/adaptare?")


@pytest.fixture
def measured(llama: ModelShape) -> list[Measurement]:
    return rows_of(llama)


def rows_of(shape: ModelShape) -> list[Measurement]:
    workloads = [Workload(shape, Configuration.uniform(shape, rank)) for rank in (2, 4)]
    base = Workload(shape).base
    return profile(workloads, reference=base, device=SimulatedDevice(), stop=FixedRounds(8), seed=0)


def written_at_once(source: Path, target: str) -> Sequence[int]:
    """Exit codes of several processes that write to a store that does not exist yet."""
    command = [sys.executable, "-c", WRITER, str(source), target, str(TIMES)]
    writers = [subprocess.Popen(command) for _ in range(WRITERS)]
    return [writer.wait(timeout=300) for writer in writers]


def check_writers(tmp_path: Path, target: str, measured: list[Measurement]) -> None:
    with contextlib.closing(Store(tmp_path / "source.db")) as source:
        source.append(measured)
    assert written_at_once(tmp_path / "source.db", target) == [0] * WRITERS
    with contextlib.closing(Store(target, create=False)) as store:
        assert store.measurements() == measured * (WRITERS * TIMES)


@pytest.mark.slow
def test_several_processes_make_and_write_one_file(tmp_path: Path, measured: list[Measurement]) -> None:
    check_writers(tmp_path, str(tmp_path / "adaptare.db"), measured)


def test_without_links_too_a_store_that_another_process_made_meanwhile_stays(
    tmp_path: Path, measured: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as on FAT."""
    take_place, started, made = store_module._take_place, threading.Event(), threading.Event()

    def refused(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    def begun(fresh: Path, target: Path) -> None:
        started.set()
        assert made.wait(60)
        take_place(fresh, target)

    def open_late() -> None:
        with contextlib.closing(Store(tmp_path / "adaptare.db")):
            pass

    with contextlib.closing(Store(tmp_path / "first.db")) as first:
        first.append(measured)
    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(store_module, "_take_place", begun)
    late = threading.Thread(target=open_late)
    late.start()
    assert started.wait(60)
    with store_module._alone_in(tmp_path):  # as the process that is faster
        (tmp_path / "first.db").rename(tmp_path / "adaptare.db")
        made.set()
    late.join()
    with contextlib.closing(Store(tmp_path / "adaptare.db", create=False)) as store:
        assert store.measurements() == measured
    assert sorted(each.name for each in tmp_path.iterdir()) == ["adaptare.db"]


@pytest.mark.smoke
@pytest.mark.postgresql
def test_several_processes_make_and_write_one_database(
    tmp_path: Path, measured: list[Measurement], database: str
) -> None:
    check_writers(tmp_path, database, measured)


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path, measured: list[Measurement]) -> None:
    file = tmp_path / "adaptare.db"
    with contextlib.closing(Store(file)) as store, contextlib.closing(sqlite3.connect(file)) as writer:
        store.append(measured)
        assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        writer.execute("BEGIN EXCLUSIVE")
        assert len(store.measurements()) == 2
        writer.rollback()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["adaptare.db"]


def test_a_writer_waits_for_another_one_and_then_gives_up(
    tmp_path: Path, measured: list[Measurement], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "adaptare.db"
    monkeypatch.setattr(store_module, "BUSY_S", 0.1)
    with contextlib.closing(Store(file)) as store, contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="cannot be written: database is locked; what it held is intact"):
            store.append(measured)
        other.rollback()
        store.append(measured)


def test_rows_that_come_while_a_store_is_read_have_their_shape(
    tmp_path: Path, measured: list[Measurement], configs: Mapping[str, Any]
) -> None:
    coming = rows_of(ModelShape.from_config(configs["mistral"]()))
    with contextlib.closing(Store(tmp_path / "adaptare.db")) as store:
        store.append(measured)

        @event.listens_for(store._engine, "after_cursor_execute", once=True)
        def write(*_: object) -> None:
            with contextlib.closing(Store(tmp_path / "adaptare.db")) as another:
                another.append(coming)

        assert store.measurements() == measured
        assert store.measurements() == [*measured, *coming]


@pytest.mark.postgresql
def test_rows_of_a_database_cannot_be_changed(measured: list[Measurement], database: str) -> None:
    with contextlib.closing(Store(database.replace("postgres@", "postgres:secret@"))) as store:
        assert "secret" not in store.location
        store.append(measured)
        assert store.finished(measured[0].device, measured[0].reference) == {each.workload.hash for each in measured}
        assert store.calibration(measured[0].device, measured[0].reference) == measured[-1].reference_s
    engine = create_engine(database)
    for change in ("UPDATE measurements SET session = 'x'", "DELETE FROM measurements"):
        with engine.begin() as connection, pytest.raises(SQLAlchemyError, match="rows of measurements are never"):
            connection.exec_driver_sql(change)
    engine.dispose()
