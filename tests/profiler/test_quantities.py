"""Quantities beside latency: their samples, intervals, and the store that keeps them."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.devices.simulated import SimulatedWorker
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Store, Workload
from adaptare.profiler.analysis.intervals import ratio_interval
from adaptare.profiler.measuring.probe import probe_of, unit_of
from adaptare.profiler.measuring.probes import Energy, Latency, Memory, Operators, Swap
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stopping import Progress
from adaptare.profiler.store.measurement import Visit, pooled
from adaptare.profiler.store.samples import Samples

SAMPLES = Samples("J", ((2.0, 4.0, 3.0), (), (6.0,), (3.0,)), ((1.0,), (1.0,), (2.0,), (3.0,)))
MEDIANS = np.array([3.0, 6.0, 3.0])
ROUNDS = np.array([0, 2, 3])


@pytest.fixture
def measured(llama: ModelShape) -> Measurement:
    workload = Workload(llama, Configuration.uniform(llama, 8))
    session = Session(SimulatedDevice(power_w=5.0), FixedRounds(4))
    return session.measure([workload], reference=workload.base, probes=[Latency(), Energy(seconds=0.01)])[0]


def test_the_interval_is_over_the_medians_of_rounds_with_samples() -> None:
    assert SAMPLES.value == ratio_interval(MEDIANS, ROUNDS)
    assert SAMPLES.of_reference.value == ratio_interval(np.array([1.0, 1.0, 2.0, 3.0]), np.arange(4))


def test_the_ratio_is_paired_by_rounds() -> None:
    assert SAMPLES.ratio == ratio_interval(MEDIANS / [1.0, 2.0, 3.0], ROUNDS)


def test_a_constant_or_zero_is_a_value_too() -> None:
    value = Samples("B", ((7.0,), (7.0,))).value
    assert (value.lower, value.middle, value.upper) == pytest.approx((7.0, 7.0, 7.0))
    assert Samples("B", ((0.0,), (0.0,))).value.middle == pytest.approx(0.0)
    assert Samples("B", ((7.0,),)).value.upper == np.inf


@pytest.mark.parametrize(
    ("samples", "reason"),
    [(replace(SAMPLES, failure="it crashed"), "it crashed"), (Samples("J"), "no round was finished")],
)
def test_a_failure_is_told_instead_of_a_value(samples: Samples, reason: str) -> None:
    with pytest.raises(InputError, match=f"nothing was measured: {reason}"):
        _ = samples.value


def test_the_90th_percentile_is_of_the_calls_of_each_opening(measured: Measurement) -> None:
    numbers = range(8)
    visits = tuple(Visit(n // 2, n, 0.1, tuple((n + 1) * np.linspace(1.0, 2.0, 11))) for n in numbers)
    reference = tuple(Visit(n // 2, n, 0.1, tuple(np.linspace(1.0, 2.0, 11))) for n in numbers)
    row = replace(measured, visits=visits, reference_visits=reference)
    calls = np.concatenate([each.samples_s for each in visits[2:4]])
    assert row.has("p90")
    assert row.samples("p90").rounds[1] == (pytest.approx(np.quantile(calls, 0.9)),)
    assert row.opening_count("p90") == 4
    assert row.reference_value("p90") == pytest.approx(1.9)
    assert row.ratio_to_reference("p90").middle == pytest.approx(row.value("p90").middle / 1.9)
    assert not replace(row, origin="composed").has("p90")


def test_a_quantity_that_was_not_measured_is_refused(measured: Measurement) -> None:
    assert not measured.has("swap")
    with pytest.raises(InputError, match="swap was not measured, only latency, energy, power"):
        measured.value("swap")


def test_only_what_has_all_quantities_is_finished(measured: Measurement, tmp_path: Path) -> None:
    store = Store(tmp_path / "adaptare.db")
    store.append([replace(measured, quantities={})])
    at = (measured.device, measured.reference)
    assert store.finished(*at) == {measured.workload.hash}
    assert store.finished(*at, quantities=["latency", "energy"]) == set()
    store.append([measured])
    assert store.finished(*at, quantities=["latency", "energy"]) == {measured.workload.hash}


def test_pooling_joins_the_rounds(measured: Measurement) -> None:
    energy = pooled(measured, replace(measured, session="later")).quantities["energy"]
    once = measured.quantities["energy"]
    assert energy.rounds == once.rounds * 2
    assert energy.reference_rounds == once.reference_rounds * 2


def test_an_interruption_between_visits_leaves_what_was_measured(llama: ModelShape) -> None:
    class Interrupted(FixedRounds):
        def opening_reason(self, progress: Progress) -> str:
            return "interrupted" if progress.opening == 2 else super().opening_reason(progress)

    workload = Workload(llama, Configuration.uniform(llama, 8))
    session = Session(SimulatedDevice(power_w=5.0), Interrupted(4))
    (row,) = session.measure([workload], reference=workload.base, probes=[Latency(), Energy(seconds=0.01)])
    assert row.stopped_by == "interrupted"
    assert not row.complete
    assert row.has("latency")
    assert [len(samples) for samples in row.quantities["energy"].rounds] == [1, 1, 0, 0, 0, 0, 0, 0]


def test_probes_are_found_by_the_name_of_their_quantity() -> None:
    found = {name: type(probe_of(name)) for name in ("latency", "energy", "operators", "memory", "swap")}
    assert list(found.values()) == [Latency, Energy, Operators, Memory, Swap]
    assert [unit_of(name) for name in ("latency", "energy", "power", "peak_memory")] == ["s", "J", "W", "B"]
    with pytest.raises(InputError, match="unknown quantity 'mass'; installed packages measure cold_swap, energy"):
        unit_of("mass")


def test_memory_that_a_device_does_not_report_is_no_memory_of_0_bytes(
    llama: ModelShape, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SimulatedWorker.load
    monkeypatch.setattr(SimulatedWorker, "load", lambda own, program: replace(load(own, program), resident_bytes=0))
    workload = Workload(llama, Configuration.uniform(llama, 8))
    session = Session(SimulatedDevice(), FixedRounds(4))
    with pytest.raises(InputError, match="the device does not report the memory of a program"):
        session.measure([workload], reference=workload.base, probes=[Memory()])
    (row,) = session.measure([workload], reference=workload.base, probes=[Latency(), Memory(needed=False)])
    assert not row.has("memory")


def test_a_store_is_of_the_new_schema_once_something_is_added(measured: Measurement, tmp_path: Path) -> None:
    file = tmp_path / "adaptare.db"
    store = Store(file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE meta SET value = '2'")
    assert store.measurements() == []
    assert version(file) == "2"
    store.append([measured])
    assert version(file) == "3"


def version(file: Path) -> str:
    with sqlite3.connect(file) as connection:
        return str(connection.execute("SELECT value FROM meta WHERE name = 'schema_version'").fetchone()[0])
