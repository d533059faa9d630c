import shlex
from collections.abc import Iterator
from typing import Final

from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import COMPOSED
from adaptare.workflows.comparison import named
from adaptare.workflows.profiling.contents import Contents, Kind

COLUMNS: Final[tuple[Column[Kind], ...]] = (
    Column("workloads", lambda kind: kind.workload + ", dora" * (kind.kind == "dora") + COMPOSED * _composed(kind)),
    Column("model", lambda kind: ", ".join(kind.model.split(", ")[:2]), 3, folds=True),
    Column("adapters", lambda kind: str(kind.adapters)),
    Column("rows", lambda kind: str(kind.rows)),
    Column("incomplete", lambda kind: str(kind.incomplete), 1),
    Column("sessions", lambda kind: str(kind.sessions)),
    Column("last", lambda kind: kind.last[:10], 2),
)


def sections(contents: Contents) -> Iterator[Section]:
    """A table for each device."""
    for device in dict.fromkeys(kind.device for kind in contents.kinds):
        yield Table(named(device), COLUMNS, [kind for kind in contents.kinds if kind.device == device])
    yield f"{sum(kind.rows for kind in contents.kinds)} measurements in {contents.store}"
    yield Note(f"next: {shlex.join(['adaptare', 'fit', '--store', contents.store])}")


def _composed(kind: Kind) -> bool:
    return kind.origin == "composed"
