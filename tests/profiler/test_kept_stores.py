"""Stores that earlier versions wrote.

Both hold two sessions on a simulated device whose kernels take a millisecond to launch; during the first, everything
took 1.5 times as long, and those versions scaled both sessions by it.
"""

import lzma
from dataclasses import replace
from pathlib import Path

import pytest

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Store, Workload, profile

KEPT = Path(__file__).parent / "kept"
DEVICE = SimulatedDevice(launch_s=1e-3)
FIRST_CALIBRATION_S = 0.1469279434639149


@pytest.fixture(params=["release-0-1-0", "release-0-2-0-dev0"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    file = tmp_path / "adaptare.db"
    file.write_bytes(lzma.decompress((KEPT / f"{request.param}.db.xz").read_bytes()))
    return Store(file)


def test_a_store_of_an_earlier_version_is_read(store: Store) -> None:
    read = store.measurements()
    info, base = read[0].device, read[0].reference
    assert info.device == "simulated:launch_s=0.001"
    assert [next(iter(each.workload.configuration.by_path.values())) for each in read] == [2, 4, 8, 1, 16]
    assert [len(each.visits) for each in read] == [16] * 5
    assert store.finished(info, base) == {each.workload.hash for each in read}
    assert store.calibration(info, base) == FIRST_CALIBRATION_S


def test_the_next_session_corrects_its_calibration(store: Store) -> None:
    (*_, known) = store.measurements()
    workload = Workload(known.workload.shape, Configuration.uniform(known.workload.shape, 12))
    measured = profile([workload], reference=known.reference, device=DEVICE, stop=FixedRounds(16), seed=0)
    store.append([replace(each, device=known.device) for each in measured])
    for each in store.measurements():
        assert each.latency_s == pytest.approx(DEVICE.latency_s(each.workload.work()), rel=0.01)
