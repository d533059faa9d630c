"""A program that is slower after some of its loadings is said to have two levels, with their shares."""

import pytest
from simulated_noise import Jitter, TwoLevels

from adaptare.devices import SimulatedDevice
from adaptare.devices.simulated import SimulatedNoise
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.workflows.profiling.campaign import two_levels

SHAPE = ModelShape("llama", 2, 32, 4, 2, 8, 48, 64, "{}")
ADAPTED = Workload(SHAPE, Configuration.uniform(SHAPE, 8))


def measured(*noise: SimulatedNoise) -> Measurement:
    device = SimulatedDevice(launch_s=1e-4, noise=[Jitter(0.002), *noise])
    [row] = profile([ADAPTED], reference=ADAPTED.base, device=device, stop=FixedRounds(4), seed=0, openings=24)
    return row


def test_both_levels_are_told_with_their_shares() -> None:
    row = measured(TwoLevels(0.3, 1.3))
    assert row.levels is not None
    assert row.levels.upper / row.levels.lower == pytest.approx(1.3, rel=0.1)
    [note] = two_levels([row, measured()])
    assert note.startswith("1 of 2 take one of two times from one loading of the programs to the next: swappable")
    assert f"in {1 - row.levels.share:.0%} of 24 openings" in note


def test_one_level_is_not_told() -> None:
    assert list(two_levels([measured()])) == []
