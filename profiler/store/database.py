"""Append-only store of measurements: SQLite by default, or any database supported by SQLAlchemy."""

import os
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import sqlalchemy as sql
from sqlalchemy.exc import DatabaseError, NoSuchModuleError, OperationalError, SQLAlchemyError

from adaptare.core import InputError, StorageError
from adaptare.devices import DeviceInfo
from adaptare.profiler.store.calibration import calibrated
from adaptare.profiler.store.measurement import LATENCY, Measurement, Origin
from adaptare.profiler.store.measurements import Measurements
from adaptare.profiler.store.rows import (
    DAMAGE,
    Shapes,
    StoredRow,
    UninterpretedError,
    read_row,
    reason_of,
    stored_row,
)
from adaptare.profiler.workloads.workload import Workload

# Seconds that one process waits for another to write.
BUSY_S = 60.0
# Number of the lock under which one process at a time makes the tables of a PostgreSQL store.
CREATION_LOCK = 0x61646170
# Schema 1 had a calibration in a separate table, and schema 2 one in each measurement, for latency alone. Both are read
# as they are; the first measurement that is added makes them schema 3, so that earlier versions refuse them.
SCHEMA_VERSION = 3

_tables = sql.MetaData()
_meta = sql.Table(
    "meta",
    _tables,
    sql.Column("name", sql.String(40), primary_key=True),
    sql.Column("value", sql.String(40), nullable=False),
)
_shapes = sql.Table(
    "shapes",
    _tables,
    sql.Column("hash", sql.String(16), primary_key=True),
    sql.Column("config", sql.Text, nullable=False),
)
_measurements = sql.Table(
    "measurements",
    _tables,
    sql.Column("id", sql.Integer, primary_key=True),
    sql.Column("session", sql.String(40), nullable=False),
    sql.Column("device", sql.String(16), nullable=False, index=True),
    sql.Column("workload", sql.String(16), nullable=False, index=True),
    sql.Column("reference", sql.String(16), nullable=False),
    sql.Column("complete", sql.Boolean, nullable=False),
    sql.Column("content", sql.Text, nullable=False),
)
# Statement after which a transaction writes alone.
ALONE = {
    "sqlite": "BEGIN IMMEDIATE",
    "postgresql": "LOCK TABLE shapes, measurements IN SHARE ROW EXCLUSIVE MODE",
}
for _table in (_shapes, _measurements):
    for _change in ("UPDATE", "DELETE"):
        _rule = sql.DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {_table.name}_no_{_change.lower()} BEFORE {_change} ON {_table.name} "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {_table.name} are never changed'); END"
        )
        sql.event.listen(_table, "after_create", _rule.execute_if(dialect="sqlite"))
    _refusal = sql.DDL(  # type: ignore[no-untyped-call]
        f"CREATE FUNCTION {_table.name}_never_change() RETURNS trigger LANGUAGE plpgsql AS "
        f"'BEGIN RAISE EXCEPTION ''rows of {_table.name} are never changed''; END'"
    )
    _rule = sql.DDL(  # type: ignore[no-untyped-call]
        f"CREATE TRIGGER {_table.name}_never_change BEFORE UPDATE OR DELETE ON {_table.name} "
        f"FOR EACH ROW EXECUTE FUNCTION {_table.name}_never_change()"
    )
    for _ddl in (_refusal, _rule):
        sql.event.listen(_table, "after_create", _ddl.execute_if(dialect="postgresql"))


# Advice in errors of a damaged store.
SALVAGE = "restore a copy, name another store, or let the command store salvage what can be read"
# Advice for a row that another installation has written.
INSTALL = (
    "install the package, or the version of adaptare or transformers, that it was measured with, or name another store"
)


class ForeignDatabaseError(InputError):
    """A database has tables, and none of a store."""


class Store:
    """Measurements and their shapes; the calibration of their devices is derived when they are read.

    Args:
        location: A file name, or a database URL such as `postgresql+psycopg://user@host/name`.
        create: If true, a missing store is created; otherwise it is an error.

    Raises:
        InputError: The store is missing, has a newer schema, or the file is not a store; a `ForeignDatabaseError` if
            it is a database of something else.
        StorageError: It cannot be opened or created.
    """

    def __init__(self, location: str | Path, *, create: bool = True) -> None:
        place = str(location)
        if not place:
            raise InputError("the store has no name; give a file or a database URL", parameter="store")
        url = url_of(place)
        self.location = url.render_as_string(hide_password=True) if "://" in place else place
        file = Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None
        if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
            raise InputError(f"{place!r} is a database in memory, which would be lost; name a file", parameter="store")
        if file and not create and not file.exists():
            raise self._absent()
        if file and file.is_file() and not file.stat().st_size:
            raise InputError(
                f"{self.location!r} is an empty file and no store; remove it or name another", parameter="store"
            )
        try:
            if file and not file.exists():
                _make_whole(file)
            waiting = {"connect_args": {"timeout": BUSY_S}} if url.get_backend_name() == "sqlite" else {}
            unchanging = file is not None and not create and _cannot_change(file)
            self._engine = sql.create_engine(_unchanging(file) if file and unchanging else url, **waiting)
            self._check_or_create(create)
        except (OperationalError, OSError) as error:
            advice = "name a file that can be written" if file else "check the URL and the server"
            raise StorageError(f"store {self.location!r} cannot be opened: {_reason(error)}; {advice}") from error
        except (SQLAlchemyError, ImportError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.location!r} is not a store of adaptare: {_reason(error)}") from error

    def _absent(self) -> InputError:
        return InputError(f"there is no store {self.location!r}; measure something first", parameter="store")

    def _check_or_create(self, create: bool) -> None:
        present = set(sql.inspect(self._engine).get_table_names())
        if present and "meta" not in present:
            raise ForeignDatabaseError(
                f"{self.location!r} is a database of something else; name another file", parameter="store"
            )
        if "meta" in present:
            with self._engine.connect() as connection:
                query = sql.select(_meta.c.value).where(_meta.c.name == "schema_version")
                version = int(connection.execute(query).scalar_one())
            if version > SCHEMA_VERSION:
                raise InputError(
                    f"store {self.location!r} has schema {version}; this version of adaptare reads up to "
                    f"{SCHEMA_VERSION}; update it with: pip install --upgrade adaptare"
                )
            return
        if not create:
            raise self._absent()
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(CREATION_LOCK)))
            if not sql.inspect(connection).has_table("meta"):  # another process may have been faster
                _fill(connection)

    def append(self, measurements: Sequence[Measurement]) -> None:
        """Adds all measurements; if that fails, none.

        Raises:
            InputError: One could not be read back, such as one of a shape without the config of its model.
            StorageError: The store cannot be written.
        """
        rows = [stored_row(measurement) for measurement in measurements]
        shapes = Shapes({name: config for row in rows for name, config in row.configs.items()})
        for row in rows:
            try:
                read_row(row.columns["content"], shapes)
            except DAMAGE as error:
                raise InputError(
                    f"a measurement could not be read back from a store ({reason_of(error)}), so none was added; take "
                    "its shape from a model or config, and dimensions of kinds that installed packages register"
                ) from error
        self.append_rows(rows)

    def append_rows(self, rows: Sequence[StoredRow]) -> None:
        """Adds rows as they are; if that fails, none, and raises `StorageError`."""
        with self._writing() as connection:
            earlier = (_meta.c.name == "schema_version") & (_meta.c.value < str(SCHEMA_VERSION))
            connection.execute(_meta.update().where(earlier).values(value=str(SCHEMA_VERSION)))
            for row in rows:
                for name, config in row.configs.items():
                    known = sql.select(_shapes.c.hash).where(_shapes.c.hash == name)
                    if connection.execute(known).first() is None:
                        connection.execute(_shapes.insert().values(hash=name, config=config))
                connection.execute(_measurements.insert().values(**row.columns))

    def calibration(self, device: DeviceInfo, reference: Workload, *, origin: Origin = "measured") -> float | None:
        """Calibrated seconds of the reference, of measured or composed rows; `None` without a complete latency."""
        rows = self.measurements(device, reference)
        return next((row.reference_s for row in rows if row.complete and row.visits and row.origin == origin), None)

    def finished(
        self,
        device: DeviceInfo,
        reference: Workload,
        *,
        origin: Origin = "measured",
        quantities: Sequence[str] = (LATENCY,),
    ) -> set[str]:
        """Hashes of the workloads with a complete measurement of some quantities on this device with this reference.

        Composed measurements count only for workloads to be composed, not for those to be measured.
        """
        rows = self.measurements(device, reference)
        whole = [row for row in rows if row.complete and row.origin == origin and all(map(row.has, quantities))]
        return {row.workload.hash for row in whole}

    def measurements(
        self,
        device: DeviceInfo | None = None,
        reference: Workload | None = None,
        *,
        progress: Callable[[float], None] = lambda share: None,
    ) -> Measurements:
        """Measurements in the order of insertion, see `calibrated`; only of one device and one reference if given.

        Args:
            device: Its measurements only.
            reference: Those with this reference only.
            progress: Called with the share that is read.
        """
        query = sql.select(_measurements.c.id, _measurements.c.content).order_by(_measurements.c.id)
        if device is not None:
            query = query.where(_measurements.c.device == device.hash)
        if reference is not None:
            query = query.where(_measurements.c.reference == reference.hash)
        with self._reading() as connection:
            # In this order: another process may add a row and its shape between the two.
            contents = connection.execute(query).all()
            rows = connection.execute(sql.select(_shapes.c.hash, _shapes.c.config)).all()
        shapes = Shapes(dict(map(tuple, rows)))
        read = []
        for place, (number, text) in enumerate(contents):
            progress(place / len(contents))
            if row := self._row(number, text, shapes):
                read.append(row)
        return Measurements(calibrated(read, stored=[row.reference_s for row in read]))

    def _row(self, number: int, text: str, shapes: Shapes) -> Measurement | None:
        try:
            return read_row(text, shapes)
        except UninterpretedError as error:
            raise InputError(
                f"store {self.location!r}: measurement {number} cannot be interpreted by this installation "
                f"({reason_of(error)}); {INSTALL}",
                parameter="store",
            ) from error
        except DAMAGE as error:
            raise InputError(
                f"store {self.location!r}: measurement {number} is damaged ({reason_of(error)}); {SALVAGE}",
                parameter="salvage",
            ) from error

    def check(self) -> None:
        """Raises `InputError` if pages of an SQLite file are damaged, which reading some rows need not notice."""
        if self._engine.dialect.name != "sqlite":
            return
        with self._reading() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
        if found != "ok":
            raise InputError(
                f"store {self.location!r} is damaged ({' '.join(found.split())}); {SALVAGE}", parameter="salvage"
            )

    def close(self) -> None:
        """Closes the database connections."""
        self._engine.dispose()

    @contextmanager
    def _reading(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.connect() as connection:
                yield connection
        except DatabaseError as error:
            raise InputError(
                f"store {self.location!r} cannot be read: {_reason(error)}; {SALVAGE}", parameter="salvage"
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[sql.Connection]:
        try:
            with self._engine.begin() as connection:
                _log_ahead(connection)
                if connection.dialect.name in ALONE:
                    connection.exec_driver_sql(ALONE[connection.dialect.name])
                yield connection
        except DatabaseError as error:
            raise StorageError(
                f"store {self.location!r} cannot be written: {_reason(error)}; what it held is intact, "
                "what was just measured is not in it"
            ) from error


def url_of(place: str) -> sql.URL:
    """URL of a location for SQLAlchemy. Raises `InputError`."""
    try:
        return sql.make_url(place) if "://" in place else sql.URL.create("sqlite", database=place)
    except (SQLAlchemyError, ValueError) as error:
        raise InputError(
            "the store is no database URL; one reads, for example, postgresql+psycopg://user@host:5432/name"
        ) from error


def _cannot_change(file: Path) -> bool:
    """True for a store that this process can only read, and that nobody has open for writing."""
    return not os.access(file.parent, os.W_OK) and not file.with_name(f"{file.name}-wal").exists()


def _unchanging(file: Path) -> sql.URL:
    """URL of a file that is only read; otherwise SQLite makes files beside it."""
    query = {"mode": "ro", "immutable": "1", "uri": "true"}
    return sql.URL.create("sqlite", database=file.resolve().as_uri(), query=query)


def _reason(error: Exception) -> str:
    """Message of the database or its driver, without the text that SQLAlchemy adds."""
    if isinstance(error, DatabaseError):
        return " ".join(str(error.orig).split())
    if isinstance(error, OSError):
        return str(error.strerror or error)
    if isinstance(error, NoSuchModuleError):
        return "there is no such kind of database; use sqlite or postgresql+psycopg"
    if isinstance(error, ImportError):
        return f"the driver {error.name} is not installed; install it, or name another as in postgresql+psycopg"
    return "its tables are not those of one"


def _fill(connection: sql.Connection) -> None:
    """Creates the tables."""
    _tables.create_all(connection)
    connection.execute(_meta.insert().values(name="schema_version", value=str(SCHEMA_VERSION)))


def _log_ahead(connection: sql.Connection) -> None:
    """Makes readers of an SQLite store see the state before a write, instead of waiting for its end."""
    if connection.dialect.name == "sqlite":
        with suppress(OperationalError):  # somebody is reading it in the old way
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")


def _make_whole(file: Path) -> None:
    """Creates the store under a temporary name first, so that no process sees a file without tables."""
    fresh = file.with_name(f"{file.name}.new-{uuid.uuid4().hex[:8]}")
    engine = sql.create_engine(sql.URL.create("sqlite", database=str(fresh)))
    try:
        with engine.begin() as connection:
            _fill(connection)
        engine.dispose()
        _take_place(fresh, file)
    finally:
        engine.dispose()
        fresh.unlink(missing_ok=True)


def _take_place(fresh: Path, file: Path) -> None:
    try:
        os.link(fresh, file)
    except FileExistsError:  # another process was faster
        return
    except OSError:  # a file system without links
        with _alone_in(file.parent):
            if not file.exists():
                fresh.rename(file)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Excludes other processes in the same context, where the system locks folders."""
    place = None
    with suppress(ImportError, OSError):
        import fcntl

        place = os.open(folder, os.O_RDONLY)
        fcntl.flock(place, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if place is not None:
            os.close(place)
