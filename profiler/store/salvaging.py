"""Salvage of a damaged store: each measurement that can still be read, in a new one."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sql
from sqlalchemy.exc import DatabaseError, SQLAlchemyError

from adaptare.core import InputError, StorageError
from adaptare.core.content_hash import content_hash
from adaptare.core.whole_file import remove_leftovers
from adaptare.profiler.store.database import Store, url_of
from adaptare.profiler.store.rows import (
    COLUMNS,
    DAMAGE,
    Shapes,
    StoredRow,
    UninterpretedError,
    read_row,
    reason_of,
    stored_row,
)

# Numbers without a readable row after which the end of a table whose largest number cannot be read is assumed.
GAP: Final = 10_000
# Bytes of a file for each measurement, at least. A number beyond what fits into the file is damaged.
LEAST_BYTES: Final = 128
# Columns in the order of `COLUMNS`.
_SELECTED: Final = "SELECT session, device, workload, reference, complete, content FROM measurements WHERE id = {}"


@dataclass(frozen=True)
class Salvage:
    """Result of `salvage`.

    Args:
        kept: Number of measurements in the new store.
        lost: Number of each measurement that could not be read -> reason; with a damaged table also numbers after
            the last one.
        obsolete: Number of measurements of an earlier version, which no version reads.
        uninterpreted: Number of each measurement that this installation cannot interpret -> reason; it is kept as it
            is.
    """

    store: str
    new: str
    kept: int
    lost: dict[int, str]
    obsolete: int = 0
    uninterpreted: dict[int, str] = field(default_factory=dict)


def salvage(damaged: str | Path, new: Path) -> Salvage:
    """Copies every measurement that can be read, in their order, from a damaged store into a new one.

    Those that this installation cannot interpret are copied as they are. The damaged store is not changed. Calibrations
    are derived again from the rows that are kept.

    Args:
        damaged: A file or database URL.
        new: File of the new store.

    Raises:
        InputError: The damaged store does not exist or holds no readable measurement, or the new one exists.
        StorageError: The new store cannot be written.
    """
    url = url_of(str(damaged))
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise InputError(f"there is no store {str(damaged)!r}", parameter="store")
    if new.exists():
        raise InputError(f"{str(new)!r} exists; name a new file for what can be read")
    kept, lost, uninterpreted, obsolete = list[StoredRow](), dict[int, str](), dict[int, str](), 0
    try:
        with sql.create_engine(url, poolclass=sql.NullPool).connect() as connection:
            shapes = Shapes(_shapes(connection))
            for number, row in _rows(connection):
                if isinstance(row, str):
                    lost[number] = row
                    continue
                try:
                    rescued, unknown = _rescued(row, shapes)
                except DAMAGE as error:
                    lost[number] = reason_of(error)
                    continue
                if unknown:
                    uninterpreted[number] = unknown
                if rescued:
                    kept.append(rescued)
                else:
                    obsolete += 1
    except (SQLAlchemyError, ImportError) as error:
        reason = getattr(error, "orig", None) or error
        raise InputError(f"{str(damaged)!r} cannot be opened: {reason}; is it a store?", parameter="store") from error
    if not kept:
        raise InputError(f"{str(damaged)!r} has no measurement that can be read; restore a copy, or measure again")
    _write(kept, new)
    return Salvage(str(damaged), str(new), len(kept), lost, obsolete, uninterpreted)


def _rescued(row: Sequence[Any], shapes: Shapes) -> tuple[StoredRow | None, str]:
    """The row to keep, `None` for an obsolete one; and the reason that it is kept as it is. Raises one of `DAMAGE`."""
    columns = dict(zip(COLUMNS, row, strict=True))
    try:
        found = read_row(columns["content"], shapes)
        return stored_row(found) if found else None, ""
    except UninterpretedError as error:
        content = json.loads(columns["content"])
        if content_hash(content["workload"]) != columns["workload"]:
            raise
        named = {content[name]["shape"] for name in ("workload", "reference")}
        columns["complete"] = bool(columns["complete"])
        return StoredRow(columns, {name: shapes.configs[name] for name in named}), reason_of(error)


def _write(rows: Sequence[StoredRow], new: Path) -> None:
    """Fills the store beside its place, so that a salvage that is killed leaves none there."""
    prefix = f".{new.name}-new-"
    try:
        remove_leftovers(new.parent, prefix)
        with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=new.parent) as beside:
            fresh = Path(beside) / new.name
            with closing(Store(fresh)) as store:
                store.append_rows(rows)
            fresh.rename(new)
    except (OSError, StorageError) as error:
        cause = error.__cause__ or error
        reason = getattr(cause, "orig", None) or getattr(cause, "strerror", None) or cause
        raise StorageError(f"the store {str(new)!r} cannot be written: {reason}; name a file elsewhere") from error


def _shapes(connection: sql.Connection) -> dict[str, str]:
    """Text of each shape that can be read, by hash."""
    try:
        return dict(map(tuple, connection.exec_driver_sql("SELECT hash, config FROM shapes").all()))
    except DatabaseError:
        rows = _by_number(connection, "SELECT hash, config FROM shapes WHERE rowid = {}", last=None)
        return dict(tuple(row) for _, row in rows if not isinstance(row, str))


def _rows(connection: sql.Connection) -> Iterator[tuple[int, str | Sequence[Any]]]:
    """Number of each measurement, and its columns, or the reason that it cannot be read."""
    try:
        last = connection.exec_driver_sql("SELECT max(id) FROM measurements").scalar()
    except DatabaseError:
        last = None
    query, most = _SELECTED, _most_rows(connection)
    if last is None or last <= most:
        yield from _by_number(connection, query, last=last)
    else:
        yield from _by_number(connection, query, last=most)
        yield from _by_number(connection, query, first=last, last=last)


def _most_rows(connection: sql.Connection) -> float:
    """Measurements that fit into a file; no bound for other databases."""
    if connection.dialect.name != "sqlite":
        return math.inf
    pages, size = (connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("page_count", "page_size"))
    return int(pages or 0) * int(size or 0) // LEAST_BYTES


def _by_number(
    connection: sql.Connection, query: str, *, first: int = 1, last: float | None
) -> Iterator[tuple[int, str | Sequence[Any]]]:
    """Rows one by one, so that a damaged page hides no other."""
    number = found = first - 1
    while number < (found + GAP if last is None else last):
        number += 1
        try:
            row = connection.exec_driver_sql(query.format(number)).first()
        except DatabaseError as error:
            yield number, " ".join(str(error.orig).split())
            continue
        if row is not None:
            found = number
            yield number, row
