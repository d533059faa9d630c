import pytest

from adaptare.core import InputError
from adaptare.search.super_adapter.scaling import Scaling


@pytest.mark.parametrize(
    ("rule", "factors"),
    [("constant", (2.0, 2.0)), ("per-rank", (8.0, 2.0)), ("rank-stabilised", (16.0, 8.0))],
)
def test_rules_follow_their_formula(rule: str, factors: tuple[float, float]) -> None:
    scaling = Scaling(rule, alpha=32.0)
    assert (scaling.factor(4, 16), scaling.factor(16, 16)) == factors


def test_default_counts_every_rank_alike() -> None:
    assert Scaling().factor(1, 8) == Scaling().factor(8, 8)


def test_unknown_rule_names_the_known_ones() -> None:
    with pytest.raises(InputError, match="constant, per-rank, rank-stabilised"):
        Scaling("linear")


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_must_be_positive(alpha: float) -> None:
    with pytest.raises(InputError, match="above 0"):
        Scaling(alpha=alpha)
