"""The environment in a measurement is what the worker told, not what this process has."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from adaptare.devices import DeviceInfo, SimulatedDevice, Worker, WorkerInfo
from adaptare.profiler import Configuration, ModelShape, Workload, profile
from adaptare.profiler.measuring.stopping import FixedRounds


class Telling:
    """A simulated worker on a machine whose temperature rises by a degree at each look."""

    def __init__(self, worker: Any, looks: list[int]) -> None:
        self._worker, self._looks = worker, looks
        self.load, self.run, self.unload = worker.load, worker.run, worker.unload

    @property
    def info(self) -> WorkerInfo:
        return replace(self._worker.info, cache_bytes=7, processors=(3,), environment=self.environment())

    def environment(self) -> Mapping[str, Any]:
        self._looks.append(40 + len(self._looks))
        return {"temperature_c": {"skin": self._looks[-1]}, "variables": {"OMP_WAIT_POLICY": "PASSIVE"}}


class TellingDevice:
    def __init__(self) -> None:
        self._device, self.looks = SimulatedDevice(), list[int]()
        self.capacity_bytes = self._device.capacity_bytes

    def info(self) -> DeviceInfo:
        return self._device.info()

    @contextmanager
    def open(self) -> Iterator[Worker]:
        with self._device.open() as worker:
            yield Telling(worker, self.looks)


def environments(shape: ModelShape, device: Any, openings: int) -> Mapping[str, Any]:
    workload = Workload(shape, Configuration.uniform(shape, 2))
    (found,) = profile(
        [workload], reference=workload.base, device=device, stop=FixedRounds(8), seed=0, openings=openings
    )
    return found.environment


def test_before_and_after_are_told_by_the_first_and_the_last_worker(llama: ModelShape) -> None:
    device = TellingDevice()
    found = environments(llama, device, openings=3)
    before, after = (found[when]["temperature_c"]["skin"] for when in ("before", "after"))
    assert 40 <= before < after == 40 + len(device.looks) - 1
    assert found["before"]["variables"] == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_the_worker_is_described_by_itself(llama: ModelShape) -> None:
    worker = environments(llama, TellingDevice(), openings=1)["worker"]
    assert (worker["cache_bytes"], list(worker["processors"])) == (7, [3])
    assert "environment" not in worker
