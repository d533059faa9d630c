import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.profiler import Site, Space
from adaptare.profiler.workloads.space import rank_space
from adaptare.search.training.step_sampler import SandwichSampler, StepSampler, UniformSampler, step_codes

DRAWS = 3000
SAMPLERS: list[StepSampler] = [UniformSampler(), SandwichSampler()]


@pytest.fixture
def space() -> Space:
    sites = tuple(Site(f"model.layers.{layer}.mlp.up_proj", "up_proj", layer, 8, 8) for layer in range(3))
    return rank_space("three", sites, ((0,), (1,), (2,)), ((0, 1, 2, 4), (0, 8), (2, 4, 6)))


def draws(sampler: StepSampler, space: Space, n: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    return np.stack([step_codes(sampler, space, seed=seed, step=step) for step in range(n)])


def assert_frequency(found: NDArray[np.bool_], expected: float) -> None:
    three_sigma = 3 * np.sqrt(expected * (1 - expected) / len(found))
    assert found.mean() == pytest.approx(expected, abs=three_sigma)


def test_uniform_draws_every_choice_equally_often(space: Space) -> None:
    codes = draws(UniformSampler(), space)
    for column, ranks in enumerate(each.choices for each in space.dimensions):
        for rank in ranks:
            assert_frequency(codes[:, column] == rank, 1 / len(ranks))


def test_uniform_draws_groups_independently(space: Space) -> None:
    codes = draws(UniformSampler(), space)
    assert_frequency((codes[:, 0] == 4) & (codes[:, 1] == 8), 1 / 8)


def test_sandwich_adds_its_share_of_the_largest(space: Space) -> None:
    codes = draws(SandwichSampler(largest=0.4), space)
    assert_frequency((codes == [4, 8, 6]).all(axis=1), 0.4 + 0.6 / 24)
    assert_frequency((codes == [0, 0, 2]).all(axis=1), 0.6 / 24)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_draws_the_same_whatever_came_before(space: Space, sampler: StepSampler) -> None:
    whole = draws(sampler, space, n=20)
    assert (step_codes(sampler, space, seed=0, step=13) == whole[13]).all()


def test_a_configuration_without_adapter_is_drawn_again(space: Space) -> None:
    bare = rank_space("bare", space.sites, ((0,), (1,), (2,)), ((0, 1), (0, 1), (0, 1)))
    codes = draws(UniformSampler(), bare)
    assert codes.any(axis=1).all()
    assert_frequency((codes == [0, 0, 1]).all(axis=1), 1 / 7)


def test_a_space_without_any_rank_is_refused(space: Space) -> None:
    with pytest.raises(InputError, match="give it ranks above 0"):
        step_codes(
            UniformSampler(), rank_space("three", space.sites, ((0,), (1,), (2,)), ((0,), (0,), (0,))), seed=0, step=0
        )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds_give_different_sequences(space: Space, sampler: StepSampler) -> None:
    assert (draws(sampler, space, n=20) != draws(sampler, space, n=20, seed=1)).any()


def test_share_of_the_largest_must_be_a_share() -> None:
    with pytest.raises(InputError, match=r"0 to 1, not 1\.5"):
        SandwichSampler(largest=1.5)
