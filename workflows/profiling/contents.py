"""Contents of a store: number of measurements that differ only in the adapter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adaptare.core.exit_codes import ExitCode
from adaptare.core.table import Column, Note, Section, Table
from adaptare.core.units import COMPOSED
from adaptare.devices import DeviceInfo
from adaptare.profiler import Configuration, Measurement, Store
from adaptare.profiler.store.measurement import Origin
from adaptare.workflows.comparison import named


@dataclass(frozen=True)
class Kind:
    """Measurements of one device, model, phase and mode."""

    device: DeviceInfo
    workload: str
    kind: str
    model: str
    origin: Origin
    adapters: int
    rows: int
    incomplete: int
    sessions: int
    first: str
    last: str

    @property
    def name(self) -> str:
        """The workload with its non-default properties."""
        return self.workload + ", dora" * (self.kind == "dora") + COMPOSED * (self.origin == "composed")


COLUMNS: Final[tuple[Column[Kind], ...]] = (
    Column("workloads", lambda kind: kind.name),
    Column("model", lambda kind: ", ".join(kind.model.split(", ")[:2]), 3, folds=True),
    Column("adapters", lambda kind: str(kind.adapters)),
    Column("rows", lambda kind: str(kind.rows)),
    Column("incomplete", lambda kind: str(kind.incomplete), 1),
    Column("sessions", lambda kind: str(kind.sessions)),
    Column("last", lambda kind: kind.last[:10], 2),
)


@dataclass(frozen=True)
class Contents:
    """Result of `contents_of`."""

    store: str
    kinds: Sequence[Kind]
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        for device in dict.fromkeys(kind.device for kind in self.kinds):
            yield Table(named(device), COLUMNS, [kind for kind in self.kinds if kind.device == device])
        yield f"{sum(kind.rows for kind in self.kinds)} measurements in {self.store}"
        yield Note(f"next: adaptare fit --store {self.store}")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        hashes = {kind.device: kind.device.hash for kind in self.kinds}
        kinds = [
            {**vars(kind), "device": kind.device.device, "device_hash": hashes[kind.device]} for kind in self.kinds
        ]
        return {"store": self.store, "contents": kinds}


def contents_of(store: Store) -> Contents:
    """Kinds of measurements, ordered by the first measurement of each."""
    kinds: dict[Any, list[Measurement]] = {}
    for row in store.measurements():
        bare = row.workload.with_configuration(Configuration(kind=row.workload.configuration.kind))
        kinds.setdefault((row.device, bare, row.workload.graph, row.origin), []).append(row)
    counted = [
        Kind(
            device=device,
            workload=some[0].workload.describe(),
            kind=bare.configuration.kind,
            model=bare.shape.describe(),
            origin=origin,
            adapters=len({row.workload.hash for row in some}),
            rows=len(some),
            incomplete=sum(not row.complete for row in some),
            sessions=len({row.session for row in some}),
            first=min(row.taken_at for row in some),
            last=max(row.taken_at for row in some),
        )
        for (device, bare, _, origin), some in kinds.items()
    ]
    return Contents(store.location, counted)
