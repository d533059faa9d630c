"""Measurements: every figure against a hand computation, and what must not be compared."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from transformers import LlamaConfig

from adaptare.core import InputError
from adaptare.devices import DeviceInfo
from adaptare.profiler import Configuration, Measurement, ModelShape, Workload
from adaptare.profiler.analysis.intervals import ratio_interval
from adaptare.profiler.store.measurement import Visit, overhead
from adaptare.profiler.store.rows import measurement_from_json, measurement_to_json

SHAPE = ModelShape.from_config(
    LlamaConfig(num_hidden_layers=2, hidden_size=16, num_attention_heads=4, intermediate_size=24, vocab_size=40)
)
ADAPTED = Workload(SHAPE, Configuration.uniform(SHAPE, 2))
BASE = ADAPTED.base
DEVICE = DeviceInfo("simulated", "closed form", "adaptare", 1, ("a=1", "b=2"))


def visits(medians: Sequence[float], *, openings: Sequence[int] = (), first_round: int = 0) -> tuple[Visit, ...]:
    """One visit per median: the samples lie around it, the touch far off."""
    labels = openings or [0] * len(medians)
    return tuple(
        Visit(opening, first_round + number, 100.0, (median / 2, median, median * 4))
        for number, (opening, median) in enumerate(zip(labels, medians, strict=True))
    )


def measured(
    candidate: Sequence[float], reference: Sequence[float], /, *, openings: Sequence[int] = (), **fields: Any
) -> Measurement:
    settings: dict[str, Any] = {"workload": ADAPTED, "device": DEVICE, "reference": BASE, "reference_s": 2.0}
    return Measurement(
        session="one",
        visits=visits(candidate, openings=openings),
        reference_visits=visits(reference, openings=openings),
        **{**settings, **fields},
    )


def noisy(seed: int, *, center: float, rounds: int = 40) -> list[float]:
    return list(center * np.exp(0.05 * np.random.default_rng(seed).standard_normal(rounds)))


def test_a_visit_counts_by_the_median_of_its_samples_without_the_touch() -> None:
    assert Visit(0, 0, 100.0, (3.0, 1.0, 2.0, 9.0)).median_s == 2.5


def test_latency_is_the_median_ratio_of_the_rounds_times_the_calibrated_reference() -> None:
    found = measured([3.0, 8.0, 5.0], [2.0, 4.0, 5.0])
    assert list(found.ratios) == [1.5, 2.0, 1.0]
    # The reference took 2 s when calibrated.
    assert found.latency_s == pytest.approx(1.5 * 2.0, rel=1e-12)
    assert (found.lower_s, found.upper_s) == (found.ratio.lower * 2.0, found.ratio.upper * 2.0)


def test_a_reference_slower_than_its_calibration_is_a_slowdown() -> None:
    found = measured([3.0, 8.0, 5.0], [2.1, 2.1, 7.0])
    assert (found.raw_s, found.reference_raw_s, found.slowdown) == (5.0, 2.1, pytest.approx(0.05, rel=1e-12))


def test_the_interval_knows_the_openings() -> None:
    openings = [0] * 10 + [1] * 10 + [2] * 10 + [3] * 10
    found = measured(noisy(1, center=3.0), noisy(2, center=2.0), openings=openings)
    assert found.ratio == ratio_interval(found.ratios, np.array(openings))
    assert found.ratio != measured(noisy(1, center=3.0), noisy(2, center=2.0)).ratio


@pytest.mark.parametrize(
    ("openings", "few"),
    [([0] * 8, 1), ([0] * 4 + [1] * 4, 2), ([0] * 6 + [1] * 2, 1), ([0] * 4 + [1] * 2, 2), ([0, 1, 2, 3], 0)],
    ids=["one", "two", "one and a rest", "two, the second shorter", "four"],
)
def test_openings_that_contribute_are_counted_below_four(openings: list[int], few: int) -> None:
    found = measured(noisy(1, center=3.0, rounds=8)[: len(openings)], [2.0] * len(openings), openings=openings)
    assert found.too_few_openings == few


def test_overhead_is_the_ratio_to_the_base_minus_one() -> None:
    found = measured(noisy(1, center=3.0), noisy(2, center=2.0))
    assert (found.overhead.lower, found.overhead.middle, found.overhead.upper) == pytest.approx(
        (found.ratio.lower - 1, found.ratio.middle - 1, found.ratio.upper - 1), rel=1e-12
    )
    with pytest.raises(InputError, match="the reference was not the base of this workload"):
        _ = measured([3.0], [2.0], reference=replace(BASE, past=65)).overhead


def test_overhead_of_two_measurements_pairs_their_rounds() -> None:
    base = measured([2.0, 4.0, 5.0, 8.0], [1.0] * 4, workload=BASE)
    # Rounds 1 to 3 only: 6 / 4, 10 / 5, 8 / 8, in another order.
    own = tuple(reversed(visits([6.0, 10.0, 8.0], first_round=1)))
    candidate = replace(base, workload=ADAPTED, visits=own)
    assert overhead(candidate, base).middle == pytest.approx(0.5, rel=1e-12)


def test_overhead_does_not_pair_the_same_round_of_different_openings() -> None:
    base = measured([2.0, 4.0], [1.0] * 2, workload=BASE)
    candidate = replace(base, workload=ADAPTED, visits=visits([3.0, 6.0], openings=[1, 1]))
    with pytest.raises(InputError, match="the two have no round in common"):
        overhead(candidate, base)


@pytest.mark.parametrize("change", [{"session": "another"}, {"device": replace(DEVICE, threads=2)}], ids=str)
def test_overhead_across_sessions_or_devices_is_refused(change: dict[str, Any]) -> None:
    base = measured([2.0], [1.0], workload=BASE)
    with pytest.raises(InputError, match="overhead needs both measured in one session on one device"):
        overhead(replace(measured([3.0], [1.0]), **change), base)


def failed() -> Measurement:
    return measured([], [], failure="out of memory: 2 GB")


@pytest.mark.parametrize("figure", ["latency_s", "raw_s", "overhead"])
def test_what_failed_or_was_never_visited_has_no_figures_and_says_why(figure: str) -> None:
    with pytest.raises(InputError, match="nothing was measured: out of memory: 2 GB"):
        getattr(failed(), figure)
    with pytest.raises(InputError, match="nothing was measured: no round was finished"):
        getattr(measured([], []), figure)


@pytest.mark.parametrize(
    ("fields", "complete"),
    [
        ({"stopped_by": "precise"}, True),
        ({"stopped_by": "budget"}, True),
        ({"stopped_by": "interrupted"}, False),
        ({"failure": "out of memory"}, False),
    ],
    ids=str,
)
def test_what_failed_or_was_interrupted_is_to_be_measured_again(fields: dict[str, str], complete: bool) -> None:
    assert measured([3.0], [2.0], **fields).complete is complete


FULL = measured(
    noisy(1, center=3.0, rounds=6),
    noisy(2, center=2.0, rounds=6),
    openings=[0, 0, 0, 1, 1, 1],
    warmup_s=(9.0, 5.0, 3.5),
    stopped_by="no gain",
    resident_bytes=12345,
    load_s=0.75,
    first_call_s=0.25,
    environment={"before": {"load": [0.5, 0.25]}, "after": {"load": [1.0, 0.5]}},
    taken_at="2031-02-03T04:05:06+00:00",
)


@pytest.mark.parametrize("measurement", [FULL, failed()], ids=["measured", "failed"])
def test_json_brings_back_the_same_measurement(measurement: Measurement) -> None:
    text = json.dumps(measurement_to_json(measurement), allow_nan=False)
    assert measurement_from_json(json.loads(text), {SHAPE.hash: SHAPE}) == replace(measurement, reference_s=0.0)


def test_the_hash_of_a_device_changes_with_what_changes_latency() -> None:
    changes = {"device": "x", "hardware": "x", "runtime": "x", "threads": 2, "options": ("a=1",)}
    changed = [replace(DEVICE, **{name: value}) for name, value in changes.items()]
    assert len({each.hash for each in (DEVICE, *changed)}) == 6


def warming(rounds: int = 60, calls: int = 15) -> list[float]:
    """Twice as slow for the first rounds."""
    number = np.arange(rounds)
    return list(np.where(number < calls, 6.0, 3.0) * (1 + 0.01 * (7 * number % 11)))


def test_rounds_of_a_warm_up_of_either_do_not_count() -> None:
    steady = noisy(2, center=2.0, rounds=60)
    late, calm = measured(warming(), steady), measured(warming()[15:], steady[15:])
    assert (late.ratio, late.ratios.size) == (calm.ratio, 60)
    assert late.quantile_s(0.9) == pytest.approx(calm.quantile_s(0.9), rel=1e-12)
    assert measured(steady, warming()).ratio == measured(steady[15:], warming()[15:]).ratio


def test_each_opening_warms_up_for_itself() -> None:
    found = measured(warming() + noisy(5, center=3.0), noisy(2, center=2.0, rounds=100), openings=[0] * 60 + [1] * 40)
    kept = measured(
        (warming() + noisy(5, center=3.0))[15:], noisy(2, center=2.0, rounds=100)[15:], openings=[0] * 45 + [1] * 40
    )
    assert found.ratio == kept.ratio


def test_short_openings_that_all_begin_slowly_show_it_together() -> None:
    rng, openings = np.random.default_rng(0), [opening for opening in range(12) for _ in range(8)]
    slow = np.tile([1.5] * 4 + [1.0] * 4, 12) * np.exp(0.01 * rng.standard_normal(96))
    reference = noisy(2, center=2.0, rounds=96)
    found = measured(list(3 * slow), reference, openings=openings)
    steady = np.tile([False] * 4 + [True] * 4, 12)
    kept = measured(
        list(3 * slow[steady]), list(np.array(reference)[steady]), openings=list(np.array(openings)[steady])
    )
    assert found.ratio == kept.ratio
    assert found.opening_count() == 12
    assert measured(list(3 * slow[:24]), reference[:24], openings=openings[:24]).ratio.middle > 1.8  # too few openings


def test_a_slowdown_of_the_machine_drops_nothing() -> None:
    step = np.where(np.arange(60) < 15, 1.0, 1.7)
    found = measured(list(3 * step), list(2 * step))
    assert found.ratio.middle == pytest.approx(1.5, rel=1e-12)


def test_quantiles_are_of_all_calls_on_the_scale_of_the_reference() -> None:
    # Every visit has calls of half, one and four times its median, which is 1.5 times the reference.
    found = measured([3.0] * 10, [2.0] * 10)
    assert [found.quantile_s(share) for share in (0.0, 0.5, 1.0)] == pytest.approx([1.5, 3.0, 12.0], rel=1e-12)


def test_the_low_quantile_is_of_stable_rounds_and_not_of_lucky_ones() -> None:
    assert measured([3.0] * 20 + [1.0] * 5, [2.0] * 20 + [2.9] * 5).low_s == pytest.approx(1.5, rel=1e-12)
    # The fastest call of a visit is half of its median.
    assert measured([1.0] * 40 + [3.0] * 60, [2.0] * 100).low_s == pytest.approx(1.5, rel=1e-12)
    assert measured([3.0] * 40 + [1.0] * 60, [2.0] * 100).low_s == pytest.approx(0.5, rel=1e-12)


def test_the_low_quantile_of_the_reference_tells_at_which_speed_the_machine_ran() -> None:
    found = measured([3.0] * 10, [1.8] * 3 + [2.0] * 3 + [2.02] * 3 + [2.5])
    assert found.reference_low_s == pytest.approx(1.0, rel=1e-12)


def test_tokens_of_a_second() -> None:
    assert measured([4.0], [2.0]).tokens_per_s == pytest.approx(1 / 4.0, rel=1e-12)
    many = replace(ADAPTED, phase="prefill", tokens=32, batch=3)
    assert measured([4.0], [2.0], workload=many).tokens_per_s == pytest.approx(96 / 4.0, rel=1e-12)
