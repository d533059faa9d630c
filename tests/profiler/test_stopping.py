import pytest

from adaptare.devices import InputError, SimulatedDevice
from adaptare.devices.simulated_noise import Jitter, OpeningOffset
from adaptare.profiler import (
    AdapterConfig,
    FirstOf,
    FixedRounds,
    Measurement,
    ModelShape,
    NoGain,
    Precise,
    Progress,
    TimeBudget,
    Workload,
    profile,
)


def at(rounds: int = 20, elapsed_s: float = 1.0, half_widths: tuple[float, ...] = ()) -> Progress:
    return Progress(0, 1, 3, 0, rounds, elapsed_s, half_widths)


def test_fixed_rounds_stop_at_the_number() -> None:
    assert [FixedRounds(8).reason(at(rounds)) for rounds in (7, 8)] == ["", "rounds"]


def test_precision_looks_at_the_latest_interval() -> None:
    rule = Precise(0.01)
    assert rule.reason(at(half_widths=())) == ""
    assert rule.reason(at(half_widths=(0.009, 0.02))) == ""
    assert rule.reason(at(half_widths=(0.02, 0.01))) == "precise"


def test_no_gain_needs_a_tenth_within_the_last_looks() -> None:
    rule = NoGain(checks=3)
    assert rule.reason(at(half_widths=(0.05, 0.05, 0.05))) == ""
    assert rule.reason(at(half_widths=(0.05, 0.05, 0.05, 0.046))) == "no gain"
    assert rule.reason(at(half_widths=(0.05, 0.05, 0.05, 0.044))) == ""


def test_a_time_budget_waits_for_eight_rounds() -> None:
    rule = TimeBudget(10)
    assert rule.reason(at(rounds=7, elapsed_s=99)) == ""
    assert rule.reason(at(rounds=8, elapsed_s=9.9)) == ""
    assert rule.reason(at(rounds=8, elapsed_s=10)) == "budget"


def test_the_first_rule_that_stops_gives_the_reason() -> None:
    rule = FirstOf((Precise(0.01), FixedRounds(5)))
    assert rule.reason(at(rounds=5)) == "rounds"
    assert rule.reason(at(rounds=5, half_widths=(0.001,))) == "precise"
    assert rule.reason(at(rounds=4)) == ""


@pytest.mark.parametrize(
    "build", [lambda: FixedRounds(0), lambda: Precise(0), lambda: Precise(1), lambda: TimeBudget(0)]
)
def test_refuses_values_that_mean_nothing(build: object) -> None:
    with pytest.raises(InputError, match="must"):
        build()  # type: ignore[operator]


def measured(shape: ModelShape, noise: object, *, openings: int, half_width: float | None) -> Measurement:
    workload, device = Workload(shape, AdapterConfig.uniform(shape, 4)), SimulatedDevice(noise=[noise], seed=1)
    ask = {"openings": openings, "half_width": half_width}
    return profile([workload], reference=workload.base, device=device, stop=FixedRounds(8), seed=0, **ask)[0]  # type: ignore[arg-type]


def test_no_more_openings_than_the_interval_needs(llama: ModelShape) -> None:
    found = measured(llama, Jitter(0.001), openings=12, half_width=0.01)
    assert (found.stopped_by, len(set(found.openings.tolist()))) == ("precise", 8)
    assert found.ratio.relative_half_width <= 0.01


def test_an_interval_that_never_becomes_narrow_takes_all_openings_and_says_so(llama: ModelShape) -> None:
    for openings in (8, 9):
        found = measured(llama, OpeningOffset(0.1, 0), openings=openings, half_width=0.001)
        assert (found.stopped_by, len(set(found.openings.tolist()))) == ("openings", openings)
    assert found.ratio.relative_half_width > 0.001


def test_without_a_width_every_opening_is_taken(llama: ModelShape) -> None:
    found = measured(llama, Jitter(0.001), openings=7, half_width=None)
    assert (found.stopped_by, len(set(found.openings.tolist()))) == ("rounds", 7)


@pytest.mark.parametrize("half_width", [0.0, 1.0, -0.1])
def test_a_width_that_means_nothing_is_refused(llama: ModelShape, half_width: float) -> None:
    with pytest.raises(InputError, match="half_width must lie between 0 and 1"):
        measured(llama, Jitter(0.001), openings=2, half_width=half_width)


def test_few_openings_keep_the_reason_of_their_rounds(llama: ModelShape) -> None:
    assert measured(llama, Jitter(0.001), openings=3, half_width=0.01).stopped_by == "rounds"


def test_later_openings_tell_the_interval_over_all_before(llama: ModelShape) -> None:
    seen: dict[int, tuple[float, ...]] = {}

    class Watching:
        def reason(self, progress: Progress) -> str:
            seen[progress.opening] = progress.half_widths
            return "rounds" if progress.rounds >= 8 else ""

    workload, device = Workload(llama, AdapterConfig.uniform(llama, 4)), SimulatedDevice(noise=[Jitter(0.01)])
    profile([workload], reference=workload.base, device=device, stop=Watching(), seed=0, openings=3)
    assert [len(seen[opening]) for opening in range(3)] == [1, 1, 1]
    assert seen[0] == seen[1] != seen[2]
