"""Several measurements of one workload as one."""

from dataclasses import replace

import numpy as np
import pytest
from simulated_noise import OpeningOffset

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.profiler.store.measurement import pooled


@pytest.fixture
def two(llama: ModelShape) -> list[Measurement]:
    device = SimulatedDevice(noise=[OpeningOffset(0.02)])
    workload = Workload(llama, Configuration.uniform(llama, 4))
    return [
        profile([workload], reference=workload.base, device=device, stop=FixedRounds(8), seed=seed, openings=2)[0]
        for seed in (0, 1)
    ]


def test_openings_and_rounds_are_those_of_both(two: list[Measurement]) -> None:
    found = pooled(*two)
    assert (found.session, found.reference_s) == (two[1].session, two[1].reference_s)
    assert list(found.openings) == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 8
    assert [visit.round for visit in found.visits] == list(range(32))
    np.testing.assert_array_equal(found.ratios, np.concatenate([each.ratios for each in two]))


def test_other_workloads_are_refused(two: list[Measurement]) -> None:
    other = replace(two[1], workload=two[1].workload.base)
    with pytest.raises(InputError, match="only where they have the same workload"):
        pooled(two[0], other)
