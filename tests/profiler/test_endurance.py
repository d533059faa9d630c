"""Burst and sustained latency are told apart, and a device that slows down is said to."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.profiler.analysis.device_speed import Endurance, endurance_of
from adaptare.workflows.profiling.campaign import oddities, slowed_down

SECONDS = [1.0, 1.1, 1.2, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 3.1, 3.2]
OPENINGS = np.repeat([4, 5, 6, 7], 3)


def group(endurance: Endurance | None) -> Any:
    return SimpleNamespace(reference_endurance=endurance, workload=SimpleNamespace(phase="decode"))


def test_burst_is_the_first_opening_and_sustained_the_last_third() -> None:
    assert endurance_of(SECONDS, OPENINGS) == Endurance(1.1, 3.1)
    assert endurance_of([*SECONDS, 5.0, 5.0], np.append(OPENINGS, [8, 9])) == Endurance(1.1, 5.0)


def test_few_openings_have_no_end_apart_from_the_beginning() -> None:
    assert [endurance_of(SECONDS[:openings], np.arange(openings)) for openings in (0, 1, 2)] == [None] * 3


def test_a_device_that_slows_down_is_said_to() -> None:
    groups = [group(Endurance(*each)) for each in ((0.02, 0.026), (0.02, 0.0206), (0.03, 0.02))]
    assert list(slowed_down([*groups, group(None)])) == [
        "decode slows down while it is measured: the base took 20.0 ms at first (burst) and 26.0 ms at the end "
        "(sustained); measure for more seconds to see where it settles"
    ]


def slower_and_slower(measurement: Measurement) -> Measurement:
    visits = [
        replace(visit, samples_s=tuple(sample * 1.2**visit.opening for sample in visit.samples_s))
        for visit in measurement.reference_visits
    ]
    return replace(measurement, reference_visits=tuple(visits))


def test_rounds_of_several_sessions_are_told_apart(llama: ModelShape) -> None:
    """Each session numbers its rounds from 0."""
    stop, base, rows = FixedRounds(4), Workload(llama), []
    for rank in (4, 8):
        adapted = Workload(llama, Configuration.uniform(llama, rank))
        rows += profile([adapted], reference=base, device=SimulatedDevice(), stop=stop, seed=0, openings=3)
    assert len({row.session for row in rows}) == 2
    remarks = list(oddities(list(map(slower_and_slower, rows))))
    assert sum("slows down while it is measured" in remark for remark in remarks) == 2
