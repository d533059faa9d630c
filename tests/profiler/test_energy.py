"""Joules of a call, on a device that draws a known power."""

import itertools

import pytest
from simulated_noise import Jitter

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload
from adaptare.profiler.measuring.probes import Energy, Latency, counts_energy
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.programs.builders import SimulatedPrograms

WATTS = 7.0


def measured(shape: ModelShape, device: SimulatedDevice, probe: Energy) -> Measurement:
    workload = Workload(shape, Configuration.uniform(shape, 8))
    return Session(device).measure([workload], reference=workload.base, probes=[probe])[0]


def test_a_call_uses_power_times_time(llama: ModelShape) -> None:
    device = SimulatedDevice(power_w=WATTS)
    found = measured(llama, device, Energy(seconds=0.01))
    own, base = (WATTS * device.latency_s(workload.work()) for workload in (found.workload, found.reference))
    assert found.value("energy").middle == pytest.approx(own)
    assert found.value("power").middle == pytest.approx(WATTS)
    assert found.reference_value("energy") == pytest.approx(base)
    assert found.ratio_to_reference("energy").middle == pytest.approx(own / base)
    assert found.quantities["energy"].unit == "J"


def test_intervals_are_over_loadings(llama: ModelShape) -> None:
    device = SimulatedDevice(power_w=WATTS, noise=[Jitter(0.05)])
    energy = measured(llama, device, Energy(seconds=0.001)).value("energy")
    assert energy.lower < energy.middle < energy.upper
    assert device.openings == 8


def test_visits_in_which_the_counter_started_again_are_repeated(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = SimulatedDevice(power_w=WATTS)
    base_s = device.latency_s(Workload(llama).base.work())
    span = 40 * WATTS * base_s
    monkeypatch.setattr(SimulatedWorker, "energy_j", lambda worker: (WATTS * device.clock_s) % span)
    found = measured(llama, device, Energy(seconds=3 * base_s, openings=20))
    assert found.reference_value("energy") == pytest.approx(WATTS * base_s)


def test_a_counter_that_stands_still_is_a_failure(llama: ModelShape, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter(range(1000))
    device = SimulatedDevice(power_w=WATTS)
    base = Workload(llama).base

    def energy_j(worker: SimulatedWorker) -> float:
        return next(readings) if worker._last.startswith(device_program(base)) else 1.0

    monkeypatch.setattr(SimulatedWorker, "energy_j", energy_j)
    assert counts_energy(device)
    assert measured(llama, device, Energy(seconds=0.01)).quantities["energy"].failure == (
        "the energy counter does not advance"
    )


def device_program(workload: Workload) -> str:
    return SimulatedPrograms().program(workload).hash


def test_a_counter_that_starts_again_all_the_time_fails_after_latency_was_measured(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = itertools.count(100.0, -1.0)
    monkeypatch.setattr(SimulatedWorker, "energy_j", lambda worker: next(readings))
    workload, device = Workload(llama, Configuration.uniform(llama, 8)), SimulatedDevice(power_w=WATTS)
    (found,) = Session(device).measure([workload], reference=workload.base, probes=[Latency(), Energy(seconds=0.01)])
    assert found.complete
    assert not found.has("energy")
    with pytest.raises(InputError, match=r"nothing was measured: .* the energy counter started again 3 times in a row"):
        found.value("energy")


def test_latency_is_kept_where_the_device_has_no_counter(llama: ModelShape) -> None:
    workload = Workload(llama, Configuration.uniform(llama, 8))
    groups = Session(SimulatedDevice()).groups([workload], reference=workload.base, probes=[Latency(), Energy()])
    assert [row.has("latency") for row in next(groups)] == [True]
    with pytest.raises(InputError, match="simulated: the device has no energy counter that can be read"):
        next(groups)
