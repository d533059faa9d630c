"""Joules of a call, on a device that draws a known power."""

import itertools
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from simulated_noise import Jitter

from adaptare.core import DeviceError, InputError
from adaptare.devices import SimulatedDevice, connect, this_machine
from adaptare.devices.agent.machine import raw_facts
from adaptare.devices.machine_facts import ENERGY, MachineFacts
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.measuring.energy import counts_energy, measure_energy
from adaptare.profiler.programs.builders import SimulatedPrograms

WATTS = 7.0


def both(shape: ModelShape) -> list[Workload]:
    adapted = Workload(shape, Configuration.uniform(shape, 8))
    return [adapted.base, adapted]


def test_a_call_uses_power_times_time(llama: ModelShape) -> None:
    device = SimulatedDevice(power_w=WATTS)
    found = measure_energy(both(llama), device=device, programs=SimulatedPrograms(), seconds=0.01)
    assert found is not None
    for use in found:
        assert use.joules.middle == pytest.approx(WATTS * device.latency_s(use.workload.work()))
        assert use.watts == pytest.approx(WATTS)
    base, adapted = found
    assert base.over_base is None
    assert adapted.over_base is not None
    assert adapted.over_base.middle == pytest.approx(adapted.joules.middle / base.joules.middle - 1)


def test_intervals_are_over_loadings(llama: ModelShape) -> None:
    device = SimulatedDevice(power_w=WATTS, noise=[Jitter(0.05)])
    found = measure_energy(both(llama), device=device, programs=SimulatedPrograms(), seconds=0.001)
    assert found is not None
    assert all(use.joules.lower < use.joules.middle < use.joules.upper for use in found)


def test_what_nothing_counts_is_not_available(llama: ModelShape) -> None:
    assert measure_energy(both(llama), device=SimulatedDevice(), programs=SimulatedPrograms()) is None


def test_rounds_in_which_the_counter_started_again_do_not_count(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SimulatedDevice(power_w=WATTS)
    span = 40 * WATTS * device.latency_s(both(llama)[0].work())
    monkeypatch.setattr(SimulatedWorker, "energy_j", lambda worker: (WATTS * device.clock_s) % span)
    seconds = 3 * device.latency_s(both(llama)[0].work())
    found = measure_energy(both(llama), device=device, programs=SimulatedPrograms(), seconds=seconds, rounds=20)
    assert found is not None
    assert found[0].joules.middle == pytest.approx(WATTS * device.latency_s(both(llama)[0].work()))


def test_a_counter_that_stands_still_counts_nothing(llama: ModelShape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedWorker, "energy_j", lambda worker: 1.0)
    device = SimulatedDevice(power_w=WATTS)
    assert counts_energy(device)
    assert measure_energy(both(llama), device=device, programs=SimulatedPrograms()) is None


def test_a_counter_that_starts_again_all_the_time_is_an_error(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = itertools.count(100.0, -1.0)
    monkeypatch.setattr(SimulatedWorker, "energy_j", lambda worker: next(readings))
    with pytest.raises(DeviceError, match="started again in nearly every round"):
        measure_energy(both(llama), device=SimulatedDevice(power_w=WATTS), programs=SimulatedPrograms())


def test_a_workload_counts_once(llama: ModelShape) -> None:
    with pytest.raises(InputError, match="each workload once"):
        measure_energy(both(llama) * 2, device=SimulatedDevice(power_w=WATTS), programs=SimulatedPrograms())


@pytest.mark.parametrize(("rounds", "seconds"), [(2, 1.0), (8, 0.0)])
def test_too_little_is_refused(llama: ModelShape, rounds: int, seconds: float) -> None:
    with pytest.raises(InputError, match="energy needs 3 rounds and some time in each"):
        measure_energy(
            both(llama), device=SimulatedDevice(), programs=SimulatedPrograms(), rounds=rounds, seconds=seconds
        )


def test_a_real_worker_reads_the_counters_of_its_machine() -> None:
    opened: AbstractContextManager[object] = connect("torch-cpu:threads=1").open()
    with opened as worker:
        said = worker.energy_j()  # type: ignore[attr-defined]
    here = this_machine().energy_j
    assert (said is None) == (here is None)
    assert here is None or said <= here


def test_only_whole_packages_are_counted(tmp_path: Path) -> None:
    zones = [
        ("0", "package-0", "2000000"),
        ("0:0", "core", "900000"),
        ("1", "psys", "5000000"),
        ("2", "package-1", "x"),
    ]
    for number, name, value in zones:
        zone = tmp_path / f"sys/class/powercap/intel-rapl:{number}"
        zone.mkdir(parents=True)
        (zone / "name").write_text(f"{name}\n")
        (zone / "energy_uj").write_text(value)
    assert MachineFacts(raw_facts(ENERGY, str(tmp_path))).energy_j == 2.0
