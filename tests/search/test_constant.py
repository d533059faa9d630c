"""Loss of a model that ignores every prompt."""

import math

import pytest

from adaptare.search.training import constant_losses
from adaptare.search.training.token_examples import TokenExample


def test_a_constant_is_the_class_prior_where_the_wording_is_fixed() -> None:
    right, wrong = (TokenExample((9, 1, 2, last), 1) for last in (3, 4))
    train = [*[right] * 300, *[wrong] * 100]
    found = constant_losses(train, [right, wrong], vocabulary=10)
    assert found == pytest.approx([-math.log(0.75), -math.log(0.25)], abs=0.1)
    assert found[0] < found[1]


def test_an_unseen_token_has_a_finite_loss_and_prompts_do_not_count() -> None:
    seen = [TokenExample((9, 1), 1), TokenExample((8, 8, 1), 2)]
    unseen, known = constant_losses(seen, [TokenExample((9, 7), 1), TokenExample((7, 1), 1)], vocabulary=100)
    assert known < math.log(2) < unseen < 100


def test_positions_beyond_all_training_examples_have_frequencies_of_all_positions() -> None:
    train = [TokenExample((9, 1), 1)] * 50
    (short, long) = constant_losses(train, [TokenExample((9, 1), 1), TokenExample((9, 1, 1), 1)], vocabulary=2)
    assert short < long < 0.1
