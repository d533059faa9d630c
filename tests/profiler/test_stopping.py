import pytest

from adaptare.devices import InputError
from adaptare.profiler import FirstOf, FixedRounds, NoGain, Precise, Progress, TimeBudget


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
