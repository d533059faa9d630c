import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.search.algorithms.screen import AdditiveScreen

N_SITES = 6
WEIGHTS = np.array([3.0, 1.0, 0.0, 2.0, 0.5, 1.5])
RANKS = np.array([0, 2, 4, 8])


def rows(n: int, seed: int) -> NDArray[np.int64]:
    found = np.unique(np.random.default_rng(seed).choice(RANKS, size=(4 * n, N_SITES)), axis=0)
    return np.random.default_rng(seed).permutation(found)[:n]


def loss(codes: NDArray[np.int64]) -> NDArray[np.float64]:
    return -np.log1p(codes) @ WEIGHTS


def history(n: int, *, broken: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    codes = rows(n, seed=1)
    values = loss(codes)
    values[:broken] = np.nan
    return codes, values[:, None]


def test_proposals_are_not_multiplied_before_there_is_enough_to_learn_from() -> None:
    screen = AdditiveScreen(oversampling=5, least=20)
    assert screen.proposals(8, 19) == 8
    assert screen.proposals(8, 20) == 40


@pytest.mark.parametrize("known", [history(5), history(40, broken=30)], ids=["too few", "too few numbers"])
def test_takes_the_first_while_it_knows_too_little(known: tuple[NDArray[np.int64], NDArray[np.float64]]) -> None:
    assert AdditiveScreen(least=20).choose(rows(50, seed=2), *known, 4).tolist() == [0, 1, 2, 3]


def test_takes_all_when_there_are_no_more_than_wanted() -> None:
    assert AdditiveScreen().choose(rows(3, seed=2), *history(40), 8).tolist() == [0, 1, 2]


def test_finds_the_best_of_an_additive_objective() -> None:
    codes = rows(100, seed=2)
    chosen = AdditiveScreen().choose(codes, *history(60), 4)
    best = np.argsort(loss(codes))[:3]
    assert set(chosen[1:]) == set(best)


def test_a_quarter_is_left_to_the_algorithm() -> None:
    chosen = AdditiveScreen().choose(rows(100, seed=2), *history(60), 8)
    assert chosen[:2].tolist() == [0, 1]


def test_values_that_are_no_numbers_do_not_disturb_it() -> None:
    codes = rows(100, seed=2)
    chosen = AdditiveScreen().choose(codes, *history(60, broken=5), 4)
    assert np.argmin(loss(codes)) in chosen


@pytest.mark.parametrize("n", [1, 2, 5, 16, 99])
def test_chooses_different_rows_and_as_many_as_wanted(n: int) -> None:
    chosen = AdditiveScreen().choose(rows(100, seed=2), *history(60), n)
    assert len(set(chosen.tolist())) == len(chosen) == n


def test_two_objectives_are_chosen_from_along_the_predicted_front() -> None:
    codes = rows(200, seed=2)
    known = rows(80, seed=1)
    both = np.column_stack([loss(known), np.sum(known > 0, axis=1)])
    chosen = codes[AdditiveScreen().choose(codes, known, both, 8)[2:]]
    assert np.argmin(loss(codes)) in [int(np.flatnonzero((codes == row).all(axis=1))[0]) for row in chosen]
    assert len(set(np.sum(chosen > 0, axis=1))) >= 3


@pytest.mark.parametrize(("oversampling", "least"), [(0, 20), (20, 1)])
def test_refuses_what_cannot_work(oversampling: int, least: int) -> None:
    with pytest.raises(InputError, match="oversampling >= 1 and least >= 2"):
        AdditiveScreen(oversampling=oversampling, least=least)
