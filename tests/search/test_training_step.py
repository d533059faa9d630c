import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads.space_file import grouped_space, rank_space
from adaptare.search.training.step import DEFAULT_STEP, SANDWICH, Distillation, TrainingStep, UniformSampler

ONE = TrainingStep(UniformSampler())


def space(*choices: tuple[int, ...]) -> Space:
    shape = ModelShape("llama", len(choices), 8, 1, 1, 8, 8, 8, "{}")
    return rank_space("some", shape, [[f"model.layers.{layer}.mlp.up_proj"] for layer in range(shape.layers)], choices)


FROM_ZERO = space((0, 1, 2, 4), (0, 8), (0, 4, 6))
FROM_TWO = space((2, 4), (2, 8), (2, 6))


def steps(step: TrainingStep, space: Space, n: int) -> list[NDArray[np.int64]]:
    return [step.codes(space, seed=0, step=number) for number in range(n)]


@pytest.mark.parametrize("step", [ONE, SANDWICH, DEFAULT_STEP], ids=repr)
def test_a_step_draws_the_same_whatever_came_before(step: TrainingStep) -> None:
    whole = steps(step, FROM_ZERO, 20)
    assert (step.codes(FROM_ZERO, seed=0, step=13) == whole[13]).all()
    assert any((step.codes(FROM_ZERO, seed=1, step=n) != whole[n]).any() for n in range(20))


def test_a_sandwich_is_the_largest_some_between_and_the_smallest() -> None:
    for codes in steps(TrainingStep(UniformSampler(), draws=3, ends=True), FROM_TWO, 50):
        assert codes.shape == (5, 3)
        assert codes[0].tolist() == [4, 8, 6]
        assert codes[-1].tolist() == [2, 2, 2]
    between = np.concatenate([codes[1:-1] for codes in steps(SANDWICH, FROM_TWO, 200)])
    assert len(np.unique(between, axis=0)) == 8


def test_the_base_is_left_out_of_a_sandwich() -> None:
    for codes in steps(SANDWICH, FROM_ZERO, 50):
        assert len(codes) == 3
        assert codes[0].tolist() == [4, 8, 6]
        assert codes.any(axis=1).all()


def test_a_draw_of_the_base_is_drawn_again() -> None:
    bare = space((0, 1), (0, 1), (0, 1))
    codes = np.concatenate(steps(ONE, bare, 3000))
    assert codes.any(axis=1).all()
    share = (codes == [0, 0, 1]).all(axis=1).mean()
    assert share == pytest.approx(1 / 7, abs=3 * np.sqrt(6 / 49 / 3000))


@pytest.mark.parametrize("step", [SANDWICH, ONE], ids=["sandwich", "uniform"])
def test_a_step_never_trains_widths_without_an_adapter(step: TrainingStep) -> None:
    groups = [{"sites": "*.q_proj", "ranks": [0, 2], "tie": "all"}, {"widths": [4, 8]}]
    few = grouped_space("few", groups, ModelShape("llama", 3, 8, 1, 1, 8, 8, 8, "{}"))
    assert all(few.has_adapter(codes).all() for codes in steps(step, few, 20))


def test_a_space_without_any_rank_is_refused() -> None:
    with pytest.raises(InputError, match="give it ranks above 0"):
        ONE.codes(space((0,), (0,)), seed=0, step=0)


def test_at_least_one_configuration_is_drawn() -> None:
    with pytest.raises(InputError, match="at least 1 drawn configuration, not 0"):
        TrainingStep(UniformSampler(), draws=0)


def test_distillation_needs_a_teacher() -> None:
    with pytest.raises(InputError, match="set ends=True too"):
        TrainingStep(UniformSampler(), distil=Distillation())


@pytest.mark.parametrize(
    "wrong",
    [{"labels": -0.5}, {"temperature": 0.0}, {"outputs": float("nan")}],
)
def test_weights_of_distillation_are_positive(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="weight of the labels of 0 or more"):
        Distillation(**wrong)
