"""Contents of a store: number of measurements that differ only in the adapter."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adaptare.devices import DeviceInfo
from adaptare.devices.exit_codes import ExitCode
from adaptare.profiler import Configuration, Measurement, Store
from adaptare.profiler.campaigns.comparison import named
from adaptare.profiler.results.report import Note, Section
from adaptare.profiler.results.table import Column, Table
from adaptare.profiler.results.units import COMPOSED
from adaptare.profiler.store.measurement import Origin, device_hash


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
    Column("workloads", lambda each: each.name),
    Column("model", lambda each: ", ".join(each.model.split(", ")[:2]), 3, folds=True),
    Column("adapters", lambda each: str(each.adapters)),
    Column("rows", lambda each: str(each.rows)),
    Column("incomplete", lambda each: str(each.incomplete), 1),
    Column("sessions", lambda each: str(each.sessions)),
    Column("last", lambda each: each.last[:10], 2),
)


@dataclass(frozen=True)
class Contents:
    """Result of `contents_of`."""

    store: str
    kinds: Sequence[Kind]
    exit_code: ExitCode = ExitCode.DONE

    def sections(self) -> Iterator[Section]:
        """See `Report`."""
        for device in dict.fromkeys(each.device for each in self.kinds):
            yield Table(named(device), COLUMNS, [each for each in self.kinds if each.device == device])
        yield f"{sum(each.rows for each in self.kinds)} measurements in {self.store}"
        yield Note(f"next: adaptare fit --store {self.store}")

    def to_json(self) -> dict[str, Any]:
        """See `Report`."""
        hashes = {each.device: device_hash(each.device) for each in self.kinds}
        kinds = [
            {**vars(each), "device": each.device.device, "device_hash": hashes[each.device]} for each in self.kinds
        ]
        return {"store": self.store, "contents": kinds}


def contents_of(store: Store) -> Contents:
    """Kinds of measurements, ordered by the first measurement of each."""
    kinds: dict[Any, list[Measurement]] = {}
    for each in store.measurements():
        bare = each.workload.with_configuration(Configuration(kind=each.workload.configuration.kind))
        kinds.setdefault((each.device, bare, each.workload.graph, each.origin), []).append(each)
    found = [
        Kind(
            device=device,
            workload=some[0].workload.describe(),
            kind=bare.configuration.kind,
            model=bare.shape.describe(),
            origin=origin,
            adapters=len({each.workload.hash for each in some}),
            rows=len(some),
            incomplete=sum(not each.complete for each in some),
            sessions=len({each.session for each in some}),
            first=min(each.taken_at for each in some),
            last=max(each.taken_at for each in some),
        )
        for (device, bare, _, origin), some in kinds.items()
    ]
    return Contents(store.location, found)
