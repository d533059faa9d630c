import pytest

from adaptare.profiler.analysis.intervals import Interval, verdict


@pytest.mark.parametrize(
    ("lower", "upper", "expected"),
    [
        (-0.009, 0.009, "same"),
        (0.001, 0.009, "same"),
        (0.001, 0.02, "slower"),
        (0.15, 0.17, "slower"),
        (-0.03, -0.02, "faster"),
        (-0.02, 0.001, "ambiguous"),
        (-0.005, 0.02, "ambiguous"),
    ],
)
def test_an_interval_gets_one_of_four_verdicts(lower: float, upper: float, expected: str) -> None:
    assert verdict(Interval(lower, (lower + upper) / 2, upper)) == expected


def test_the_band_can_be_chosen() -> None:
    assert verdict(Interval(0.01, 0.02, 0.03), band=0.05) == "same"
