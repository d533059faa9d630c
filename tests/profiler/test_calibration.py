"""Calibrations by session: one slow session does not make every later latency too long."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from simulated_noise import RegimeStep

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Store, Workload, profile
from adaptare.profiler.store.measurement import Visit

ROUNDS = 16


def session(shape: ModelShape, rank: int, slowdown: float = 1.0) -> list[Measurement]:
    """One measurement on a device that takes `slowdown` times as long for everything."""
    workloads = [Workload(shape, Configuration.uniform(shape, rank))]
    device = SimulatedDevice(noise=[RegimeStep(0.0, slowdown)])
    return profile(workloads, reference=workloads[0].base, device=device, stop=FixedRounds(ROUNDS), seed=0)


def truth(measurement: Measurement) -> float:
    return SimulatedDevice().latency_s(measurement.workload.work())


def appended(store: Store, group: list[Measurement]) -> list[Measurement]:
    """The group as the store reads it after it was added."""
    store.append(group)
    return store.measurements()[-len(group) :]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "adaptare.db")


def test_rows_of_the_slow_session_are_read_on_the_scale_of_the_newest(llama: ModelShape, store: Store) -> None:
    appended(store, session(llama, 4, 1.5))
    appended(store, session(llama, 8))
    for read in store.measurements():
        assert read.latency_s == pytest.approx(truth(read))
    assert store.measurements()[0].slowdown == pytest.approx(0.5)


def test_a_calibration_holds_within_five_percent(llama: ModelShape, store: Store) -> None:
    (first,) = appended(store, session(llama, 4))
    (later,) = appended(store, session(llama, 8, 1.049))
    assert later.reference_s == first.reference_s
    assert later.slowdown == pytest.approx(0.049)
    assert store.calibration(first.device, first.reference) == first.reference_s


@pytest.mark.parametrize("times", [1.051, 0.949])
def test_beyond_that_the_session_calibrates_the_device_anew(llama: ModelShape, store: Store, times: float) -> None:
    (first,) = appended(store, session(llama, 4))
    (later,) = appended(store, session(llama, 8, times))
    assert later.reference_s == pytest.approx(times * first.reference_s)
    assert store.calibration(first.device, first.reference) == later.reference_s


def changed(group: Sequence[Measurement], *, early: float, late: float) -> list[Measurement]:
    """The same, with all times of the first and of the second half of the rounds multiplied."""

    def scaled(visit: Visit) -> Visit:
        times = late if visit.round >= ROUNDS / 2 else early
        return replace(visit, samples_s=tuple(times * sample for sample in visit.samples_s))

    return [
        replace(
            each,
            visits=tuple(map(scaled, each.visits)),
            reference_visits=tuple(map(scaled, each.reference_visits)),
        )
        for each in group
    ]


def test_a_session_that_ran_at_the_old_speed_too_calibrates_nothing_anew(llama: ModelShape, store: Store) -> None:
    (first,) = appended(store, session(llama, 4))
    (later,) = appended(store, changed(session(llama, 8), early=0.98, late=2.02))
    assert later.reference_s == first.reference_s
    assert later.slowdown == pytest.approx(0.5)


def test_a_session_of_several_speeds_calibrates_anew_if_none_is_the_old(llama: ModelShape, store: Store) -> None:
    appended(store, session(llama, 4, 1.5))
    (later,) = appended(store, changed(session(llama, 8), early=0.98, late=1.06))
    assert later.latency_s == pytest.approx(1.02 * truth(later))


def test_a_session_recalibrates_where_that_is_asked_for(llama: ModelShape, store: Store) -> None:
    (first,) = appended(store, session(llama, 4))
    marked = [replace(each, recalibrates=True) for each in session(llama, 8, 1.04)]
    (later,) = appended(store, marked)
    assert later.reference_s == pytest.approx(1.04 * first.reference_s)
    (after,) = appended(store, session(llama, 16))
    assert after.reference_s == later.reference_s


def test_a_recalibrated_session_has_one_scale(llama: ModelShape, store: Store) -> None:
    """Its first complete measurement sets the scale; the others are within 5 % of it."""
    marked = [replace(each, recalibrates=True) for each in session(llama, 8, 1.04)]
    (other,) = changed(marked, early=1.02, late=1.02)
    store.append([*marked, replace(other, workload=session(llama, 4)[0].workload)])
    assert {each.reference_s for each in store.measurements()} == {marked[0].reference_raw_s}
