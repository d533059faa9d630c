import numpy as np
import pytest
from simulated_noise import Jitter, OpeningOffset

from adaptare.core import InputError
from adaptare.devices import SimulatedDevice
from adaptare.profiler import Configuration, FixedRounds, Measurement, ModelShape, Workload, precise_within, profile
from adaptare.profiler.analysis.intervals import ratio_interval
from adaptare.profiler.measuring.stopping import PreciseWithin, Progress, StoppingRule


def at(**state: float) -> Progress:
    return Progress(0, 1, 3, **{"opening": 0, **state})  # type: ignore[arg-type]


def test_fixed_rounds_end_an_opening_at_the_number_and_never_the_group() -> None:
    rule = FixedRounds(8)
    assert [rule.opening_reason(at(rounds=rounds)) for rounds in (7, 8)] == ["", "rounds"]
    assert rule.reason(at(opening=99, rounds=8, half_width=0.0)) == ""


def test_an_opening_ends_after_eight_rounds_or_after_four_slow_ones() -> None:
    rule = PreciseWithin(0.01, 60)
    assert [rule.opening_reason(at(opening=1, rounds=rounds)) for rounds in (7, 8)] == ["", "rounds"]
    assert [rule.opening_reason(at(rounds=rounds, rounds_s=7.5)) for rounds in (3, 4)] == ["", "rounds"]
    assert rule.opening_reason(at(rounds=4, rounds_s=7.4)) == ""


def test_the_first_opening_has_fewer_rounds_and_counts(llama: ModelShape) -> None:
    rule = PreciseWithin(0.01, 60)
    assert [rule.opening_reason(at(rounds=rounds)) for rounds in (5, 6)] == ["", "rounds"]
    found = measured(llama, Jitter(0.001), precise_within(0.001, 1000, 2))
    assert (len(found.visits), found.too_few_openings) == (14, 2)


def test_a_narrow_interval_counts_from_the_sixth_opening_on() -> None:
    rule = PreciseWithin(0.01, 60)
    assert [rule.reason(at(opening=opening, half_width=0.01)) for opening in (0, 1, 4, 5)] == ["", "", "", "precise"]
    assert rule.reason(at(opening=5, half_width=0.0101)) == ""


def test_no_opening_begins_that_would_end_too_late_but_the_first_four() -> None:
    rule = PreciseWithin(0.01, 60)
    assert [rule.reason(at(opening=opening, elapsed_s=999)) for opening in range(4)] == ["", "", "", "budget"]
    assert [rule.reason(at(opening=3, elapsed_s=elapsed_s)) for elapsed_s in (48, 48.1)] == ["", "budget"]
    assert [rule.reason(at(opening=8, elapsed_s=elapsed_s)) for elapsed_s in (54, 54.1)] == ["", "budget"]


def test_refuses_values_that_mean_nothing() -> None:
    for width, seconds in ((0, 1), (1, 1), (0.1, 0)):
        with pytest.raises(InputError, match="must"):
            precise_within(width, seconds)
    for rounds, openings in ((0, 1), (8, 0)):
        with pytest.raises(InputError, match="must"):
            FixedRounds(rounds, openings=openings)


def measured(shape: ModelShape, noise: object, stop: StoppingRule, *, seed: int = 1, **options: int) -> Measurement:
    workload = Workload(shape, Configuration.uniform(shape, 4))
    device = SimulatedDevice(launch_s=1e-3, noise=[noise], seed=seed)
    return profile([workload], reference=workload.base, device=device, stop=stop, seed=0, **options)[0]  # type: ignore[arg-type]


def openings_of(found: Measurement) -> int:
    return len(set(found.openings.tolist()))


def test_no_more_openings_than_the_interval_needs(llama: ModelShape) -> None:
    found = measured(llama, Jitter(0.001), precise_within(0.01, 1000))
    assert (found.stopped_by, openings_of(found), len(found.visits)) == ("precise", 6, 46)
    assert found.ratio.half_width <= 0.01


def test_few_openings_are_judged_by_the_interval_over_all_of_them(llama: ModelShape) -> None:
    """The interval within the first opening is narrow, and the openings differ by more."""
    for seed in range(8):
        found = measured(llama, OpeningOffset(0.02, seed), precise_within(0.005, 1000, 3), seed=seed)
        assert (found.stopped_by, openings_of(found)) == ("openings", 3)
        assert found.ratio.half_width > 0.005


def test_an_interval_that_never_becomes_narrow_takes_all_openings_and_says_so(llama: ModelShape) -> None:
    found = measured(llama, OpeningOffset(0.1, 0), precise_within(0.001, 1000, 8))
    assert (found.stopped_by, openings_of(found)) == ("openings", 8)
    assert found.ratio.half_width > 0.001


def test_the_interval_over_all_openings_is_told_after_each(llama: ModelShape) -> None:
    seen: list[tuple[int, float]] = []

    class Watching(FixedRounds):
        def reason(self, progress: Progress) -> str:
            seen.append((progress.opening, progress.half_width))
            return ""

    found = measured(llama, Jitter(0.01), Watching(8), openings=3)
    assert [opening for opening, _ in seen] == [0, 1, 2]
    assert len({half_width for _, half_width in seen}) == 3
    assert seen[-1][1] == found.ratio.half_width


@pytest.mark.slow
def test_looking_after_every_opening_keeps_the_coverage() -> None:
    """An interval is narrow too early by luck, most often where openings differ by twice the width asked for."""
    rule, rng, held, label = precise_within(0.01, 1000), np.random.default_rng(0), [], np.arange(200)
    for _ in range(800):
        ratios = np.exp(0.02 * rng.standard_normal(200))
        for opening in range(1, 200):
            found = ratio_interval(ratios[: opening + 1], label[: opening + 1])
            if rule.reason(at(opening=opening, half_width=found.half_width)):
                break
        held.append(found.contains(1.0))
    assert np.mean(held) >= 0.92
