"""The race of the default search, on known losses."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core.progress import SILENT
from adaptare.predictor import Prediction
from adaptare.profiler import ModelShape, Space, named_space
from adaptare.search.algorithms import module_sets
from adaptare.search.training.quality import PairedLosses
from adaptare.workflows.search.problem import Problem
from adaptare.workflows.search.racing import Raced, raced, settled

SHAPE = ModelShape("llama", 4, 64, 4, 2, 16, 96, 64, "{}")
BLOCKS = named_space("blocks", SHAPE, ranks=(0, 4, 16))
BASE, ALL = 100.0, 100.0 + 28 * 26
WANTED = np.array([any(kind in str(each.place) for kind in ("v_proj", "up_proj")) for each in BLOCKS.dimensions])
EXAMPLES = 80


class OfLinears:
    """Predicts ranks, and 10 for each adapted linear, beside those of the base."""

    base_value, unit = BASE, "s"

    def predict(self, codes: NDArray[np.int64], dimensions: Any) -> Prediction:
        values = BASE + (codes + 10.0 * (codes > 0)).sum(axis=1)
        return Prediction(values, values, values, np.zeros(len(codes), dtype=np.bool_))


class LossOfKinds(PairedLosses):
    """Falls with the ranks of v and up, and hardly with others."""

    name = "loss_nats"

    @property
    def tokens(self) -> NDArray[np.int64]:
        return np.ones(EXAMPLES, dtype=np.int64)

    def sums(self, codes: NDArray[np.int64], examples: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        own = 5 - codes @ np.where(WANTED, 0.01, 0.0001) + 0.01 * np.random.default_rng(0).normal(size=EXAMPLES)
        found: NDArray[np.float64] = own if examples is None else own[examples]
        return found

    def samples(self) -> list[NDArray[np.int64]]:
        return [np.arange(0, EXAMPLES, stride) for stride in (8, 4, 2, 1)]

    def __call__(self, codes: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([self.sums(row).mean() for row in codes])


@dataclass(frozen=True)
class Misled:
    """Estimates that know nothing of kinds."""

    space: Space = BLOCKS

    def __call__(self, point: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.arange(0.0, -3.0, -1.0) + np.zeros((self.space.n_axes, 1)) + point[:, None]

    @property
    def slopes(self) -> NDArray[np.float64]:
        return self(0 * self.space.highest)


def race_at(bound: float, evaluations: int, winners: int = 1) -> tuple[Problem, Raced]:
    cost: Any = SimpleNamespace(predictor=OfLinears(), bound=bound)
    loss: Any = LossOfKinds()
    problem = Problem(BLOCKS, loss, (cost,), "swappable", 0, SILENT)
    changes: Any = Misled()
    return problem, raced(problem, loss, changes, evaluations=evaluations, winners=winners)


def test_a_set_of_kinds_wins_that_the_space_ties() -> None:
    problem, found = race_at(BASE + 8 * 26, evaluations=120)
    loss: Any = LossOfKinds()
    (winner,) = settled(problem, loss, found.incumbents, found.candidates)
    assert found.names[winner] == "v+up 16"
    assert np.array_equal(BLOCKS.encode(winner), 16 * WANTED)


def test_all_sets_start_where_there_is_room() -> None:
    problem, found = race_at(BASE + 8 * 26, evaluations=120)
    sets = module_sets(BLOCKS, problem.limit)
    assert len(sets) == 21
    assert {BLOCKS.decode(codes) for codes in sets.values()} <= set(found.names)


def test_evaluations_limit_the_starts() -> None:
    for evaluations in (1, 4, 8, 12):
        problem, found = race_at(BASE + 8 * 26, evaluations=evaluations)
        assert len(found.names) <= evaluations
        assert sum(name in module_sets(BLOCKS, problem.limit) for name in found.names.values()) <= max(
            0, evaluations - 8
        )


def test_evaluations_are_counted_on_all_examples() -> None:
    n = len(race_at(BASE + 8 * 26, evaluations=120)[1].names)
    left, expected = n, n / 8
    for share in (1 / 8, 1 / 4, 1 / 2):
        left = (left + 1) // 2
        expected += left * share
    # The incumbent may stay beside the better half.
    assert math.ceil(expected) <= race_at(BASE + 8 * 26, evaluations=120)[1].evaluations <= math.ceil(expected + 7 / 8)
    assert race_at(BASE + 8 * 26, evaluations=8)[1].evaluations == 8


def test_no_set_starts_where_the_largest_fits() -> None:
    problem, found = race_at(ALL, evaluations=120)
    assert problem.cost(BLOCKS.highest) == ALL
    assert len(found.names) <= 8
