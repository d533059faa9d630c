"""Contents of a store: number of measurements that differ only in the adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adaptare.devices import DeviceInfo
from adaptare.profiler import Configuration, Measurement, Store
from adaptare.profiler.store import Origin


@dataclass(frozen=True)
class Kind:
    """Measurements of one device, model, phase and mode."""

    device: DeviceInfo
    device_hash: str
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


@dataclass(frozen=True)
class Contents:
    """Result of `contents_of`."""

    store: str
    kinds: Sequence[Kind]


def contents_of(store: Store) -> Contents:
    """Kinds of measurements, ordered by the first measurement of each.

    Raises:
        InputError: Pages or rows of the store are damaged.
    """
    store.check()
    kinds: dict[Any, list[Measurement]] = {}
    for row in store.measurements():
        bare = row.workload.with_configuration(Configuration(kind=row.workload.configuration.kind))
        kinds.setdefault((row.device, bare, row.workload.graph, row.origin), []).append(row)
    counted = [
        Kind(
            device=device,
            device_hash=device.hash,
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
