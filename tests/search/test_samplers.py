import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search.algorithms.budget_repair import InfeasibleBudgetError
from adaptare.search.budget.objective import Limit
from adaptare.search.training.step import BudgetSampler, LargestShareSampler, Sampler, SpreadSampler, UniformSampler

DRAWS = 3000
LAYERS = 40
BASE_S = 1.0


class Adapters:
    """Base cost, plus 1 per adapter and 0.01 per rank."""

    name = "cost_s"

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(BASE_S + (codes > 0).sum(axis=1) + 0.01 * codes.sum(axis=1), dtype=np.float64)


SAMPLERS: list[Sampler] = [
    UniformSampler(),
    SpreadSampler(),
    LargestShareSampler(),
    LargestShareSampler(0.1, otherwise=SpreadSampler()),
    BudgetSampler(Limit(Adapters(), 3.0)),
]


def of_layers(name: str, choices: list[tuple[int, ...]]) -> Space:
    shape = ModelShape("llama", len(choices), 8, 1, 1, 8, 8, 8, "{}")
    return rank_space(name, shape, [[f"model.layers.{layer}.mlp.up_proj"] for layer in range(shape.layers)], choices)


@pytest.fixture
def space() -> Space:
    return of_layers("three", [(0, 1, 2, 4), (0, 8), (2, 4, 6)])


@pytest.fixture
def deep() -> Space:
    return of_layers("deep", [(0, 2, 4, 8)] * LAYERS)


def draws(sampler: Sampler, space: Space, n: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return space.at(np.stack([sampler.draw(space, rng) for _ in range(n)]))


def assert_frequency(found: NDArray[np.bool_], expected: float) -> None:
    three_sigma = 3 * np.sqrt(expected * (1 - expected) / len(found))
    assert found.mean() == pytest.approx(expected, abs=three_sigma)


def test_uniform_draws_every_choice_equally_often(space: Space) -> None:
    codes = draws(UniformSampler(), space)
    for column, ranks in enumerate(each.choices for each in space.axes):
        for rank in ranks:
            assert_frequency(codes[:, column] == rank, 1 / len(ranks))


def test_the_largest_has_its_share(space: Space) -> None:
    codes = draws(LargestShareSampler(0.4), space)
    assert_frequency((codes == [4, 8, 6]).all(axis=1), 0.4 + 0.6 / 24)
    assert_frequency((codes == [0, 0, 2]).all(axis=1), 0.6 / 24)


def test_spread_visits_few_sites_and_uniform_never_does(deep: Space) -> None:
    used = {type(each).__name__: (draws(each, deep, 400) > 0).mean(axis=1) for each in SAMPLERS[:2]}
    assert (used["UniformSampler"] <= 0.5).mean() < 0.01
    assert_frequency(used["SpreadSampler"] <= 0.5, 0.5)
    assert_frequency(used["SpreadSampler"] <= 0.25, 0.25)


@pytest.mark.parametrize("bound", [4.0, 25.0])
def test_draws_around_a_budget_are_around_it(deep: Space, bound: float) -> None:
    costs = Adapters()(draws(BudgetSampler(Limit(Adapters(), bound), band=0.4), deep, 60))
    assert (costs <= bound + 0.4 * (bound - BASE_S)).all()
    assert (costs >= bound - 0.4 * (bound - BASE_S)).mean() > 0.9
    assert (costs > bound).any()
    assert (costs < bound).any()


def test_where_no_draw_is_around_the_budget_one_is_lowered_to_it(deep: Space) -> None:
    above = BudgetSampler(Limit(Adapters(), 4.0), among=LargestShareSampler(1.0))
    costs = Adapters()(draws(above, deep, 20))
    assert (costs <= 4.0 + 0.25 * 3.0).all()
    assert (costs > BASE_S).all()


def test_a_budget_that_no_adapter_meets_is_told(deep: Space) -> None:
    sampler = BudgetSampler(Limit(Adapters(), 1.001))
    with pytest.raises(InfeasibleBudgetError, match="no configuration in the space 'deep' has cost"):
        sampler.draw(deep, np.random.default_rng(0))


def test_a_sampler_around_a_budget_is_recorded_by_its_bound() -> None:
    assert repr(SAMPLERS[-1]) == "BudgetSampler(cost_s=3.0, band=0.25, among=SpreadSampler())"


@pytest.mark.parametrize("sampler", SAMPLERS, ids=repr)
def test_one_state_of_the_generator_gives_one_sequence(deep: Space, sampler: Sampler) -> None:
    assert (draws(sampler, deep, 10) == draws(sampler, deep, 10)).all()
    assert (draws(sampler, deep, 10) != draws(sampler, deep, 10, seed=1)).any()


def test_shares_are_of_one() -> None:
    for band in (0.0, 1.5):
        with pytest.raises(InputError, match="a share above 0 and up to 1"):
            BudgetSampler(Limit(Adapters(), 3.0), band=band)
    with pytest.raises(InputError, match=r"0 to 1, not 1\.5"):
        LargestShareSampler(1.5)
