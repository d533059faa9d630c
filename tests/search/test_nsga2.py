from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.profiler import ModelShape, named_space, read_space
from adaptare.search import Nsga2

SHAPE = ModelShape.from_mapping(
    {
        "model_type": "llama",
        "num_hidden_layers": 4,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 64,
    }
)
SPACE = named_space("kinds", SHAPE)


def optimise(aim: int, *, rounds: int = 60) -> NDArray[np.int64]:
    """The points of the last rounds when the distance of their sum from a number is minimised."""
    algorithm = Nsga2(SPACE, seed=0)
    asked = []
    for _ in range(rounds):
        asked.append(algorithm.ask(10))
        algorithm.tell(asked[-1], np.abs(asked[-1].sum(axis=1, keepdims=True) - aim).astype(np.float64))
    return np.concatenate(asked[-10:])


def test_it_begins_with_the_ladder_of_uniform_choices() -> None:
    assert Nsga2(SPACE, seed=0).ask(4).tolist() == [[choice] * SPACE.n_axes for choice in (1, 2, 3, 4)]


def test_the_ladder_takes_each_group_to_the_end_of_its_own_list(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "groups:\n"
        "- {sites: '*.self_attn.*', ranks: [0, 2, 4, 8, 16], tie: all}\n"
        "- {sites: '*', ranks: [4, 8], tie: all}\n"
    )
    ladder = Nsga2(read_space(file, SHAPE), seed=0).ask(5)
    assert ladder[0].tolist() == [0, 0]
    assert ladder[-1].tolist() == [4, 1]


def test_it_stays_near_an_optimum_inside_the_space() -> None:
    total = optimise(20).sum(axis=1)
    assert 18 <= np.median(total) <= 26


def test_a_population_is_at_least_four() -> None:
    with pytest.raises(InputError, match="population must be at least 4, not 3"):
        Nsga2(SPACE, seed=0, population=3)


def test_a_space_that_is_smaller_than_the_population_is_searched_to_the_end(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("groups:\n- {sites: '*', ranks: [4, 8, 16], tie: all}\n")
    algorithm = Nsga2(read_space(file, SHAPE), seed=0)
    for _ in range(6):
        points = algorithm.ask(5)
        algorithm.tell(points, points.astype(np.float64))
        assert points.shape == (5, 1)
