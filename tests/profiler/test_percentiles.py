"""Percentiles of calls beside a reference that is visited several times in each round."""

import json
from dataclasses import replace

import numpy as np
from simulated_noise import Bursts, Jitter

from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, profile
from adaptare.profiler.store import P90
from adaptare.profiler.store.measurement import pooled
from adaptare.profiler.store.rows import measurement_from_json, measurement_to_json

RANKS = range(1, 5)
# So much for each launch that a visit is a single call.
LAUNCH_S = 1e-3


def measured(
    shape: ModelShape, ranks: range = RANKS, *, rounds: int = 8, openings: int = 2, seed: int = 0
) -> list[Measurement]:
    """Candidates with more slow calls than the 90th percentile leaves out."""
    workloads = [Workload(shape, Configuration.uniform(shape, rank)) for rank in ranks]
    device = SimulatedDevice(launch_s=LAUNCH_S, noise=[Bursts(share=0.18, slowdown=1.5), Jitter(0.01)], seed=seed)
    base, stop = workloads[0].base, FixedRounds(rounds)
    return profile(workloads, reference=base, device=device, stop=stop, seed=seed, openings=openings)


def off(row: Measurement) -> float:
    """Logarithm of the ratio of 90th percentiles over the true one."""
    device = SimulatedDevice(launch_s=LAUNCH_S)
    true_s, base_s = (device.latency_s(each.work()) for each in (row.workload, row.reference))
    return float(np.log(row.ratio_to_reference(P90).middle * base_s / true_s))


def test_a_90th_percentile_is_to_calls_of_the_reference_that_nobody_has_chosen(llama: ModelShape) -> None:
    """Of several visits of a round, the median one seldom has slow calls."""
    found = [off(row) for seed in range(2) for row in measured(llama, rounds=60, openings=6, seed=seed)]
    assert max(np.abs(found)) < 0.01


def test_first_visits_are_kept_beside_median_ones(llama: ModelShape) -> None:
    row = measured(llama)[0]
    first, median = row.first_reference_visits, row.reference_visits
    assert [visit.round for visit in first] == [visit.round for visit in median] == list(range(16))
    assert 0 < sum(one == other for one, other in zip(first, median, strict=True)) < len(first)
    assert measured(llama, range(1, 4))[0].first_reference_visits == ()


def test_rows_without_first_visits_are_read_with_their_median_ones(llama: ModelShape) -> None:
    row = measured(llama)[0]
    content, shapes = json.loads(json.dumps(measurement_to_json(row))), {llama.hash: llama}
    assert measurement_from_json(content, shapes).samples(P90) == row.samples(P90)
    del content["first_reference_visits"]
    earlier = measurement_from_json(content, shapes)
    assert earlier == replace(row, first_reference_visits=(), reference_s=earlier.reference_s)
    assert earlier.samples(P90).rounds == row.samples(P90).rounds
    assert earlier.ratio == row.ratio


def test_pooled_rows_have_the_first_visits_of_both(llama: ModelShape) -> None:
    row = measured(llama, openings=3)[0]
    parts = (row, replace(row, first_reference_visits=()))
    theirs = [part.samples(P90).reference_rounds for part in parts]
    assert theirs[0] != theirs[1]
    assert pooled(*parts).samples(P90).reference_rounds == theirs[0] + theirs[1]
    assert pooled(*parts[::-1]).samples(P90).reference_rounds == theirs[1] + theirs[0]
