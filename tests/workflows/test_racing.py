"""The race of the default search, on known losses."""

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
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
LAYERS = np.array([(1, 3, 0, 0)[each.layer] for each in BLOCKS.dimensions])
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


class LossOfKindsInLayers(LossOfKinds):
    """As `LossOfKinds`, of some layers only: the second most, and the first."""

    def sums(self, codes: NDArray[np.int64], examples: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        return super().sums(codes * LAYERS, examples)


@dataclass(frozen=True)
class OfLayers(Misled):
    """Estimates that know the layers, and nothing of kinds."""

    def __call__(self, point: NDArray[np.int64]) -> NDArray[np.float64]:
        layers = np.array([(1, 3, 0, 0)[axis.dimensions[0].layer] for axis in self.space.axes])
        return (0.01 + layers[:, None]) * (point[:, None] - np.arange(3.0))


def race_at(
    bound: float, evaluations: int, winners: int = 1, *, loss: Any = None, changes: Any = None
) -> tuple[Problem, Raced]:
    cost: Any = SimpleNamespace(predictor=OfLinears(), bound=bound)
    loss = loss or LossOfKinds()
    problem = Problem(BLOCKS, loss, (cost,), "swappable", 0, SILENT)
    return problem, raced(problem, loss, changes or Misled(), evaluations=evaluations, winners=winners)


def test_a_set_of_kinds_wins_that_the_space_ties() -> None:
    problem, found = race_at(BASE + 8 * 26, evaluations=120)
    loss: Any = LossOfKinds()
    (winner,) = settled(problem, loss, found.incumbents, found.candidates)
    assert found.names[winner] == "v+up 16"
    assert np.array_equal(BLOCKS.encode(winner), 16 * WANTED)


def test_all_sets_start_where_there_is_room() -> None:
    problem, found = race_at(BASE + 8 * 26, evaluations=120)
    sets = module_sets(BLOCKS, problem.limit)
    assert len(sets) == 35 + 21 + 1  # in every second layer, in all, and all linears in every third
    assert {BLOCKS.decode(codes) for codes in sets.values()} <= set(found.names)


@pytest.mark.parametrize("winners", [1, 2])
def test_the_kinds_of_the_best_sets_are_shrunk_from_all_layers(winners: int) -> None:
    loss: Any = LossOfKindsInLayers()
    problem, found = race_at(BASE + 4 * 26, 120, winners, loss=loss, changes=OfLayers())
    winner, *smaller = settled(problem, loss, found.incumbents, found.candidates)
    assert len(smaller) == winners - 1
    assert found.names[winner] == "staged-fisher of v+up"
    assert np.array_equal(BLOCKS.encode(winner), 16 * (WANTED & (LAYERS > 0)))
    for other in smaller:
        assert found.names[other].startswith("staged-fisher of ")
        assert np.array_equal(BLOCKS.encode(other), 16 * (WANTED & (LAYERS == 3)))


def started(found: Raced) -> tuple[list[str], list[str]]:
    """Names of starts, and of what was shrunk from kinds."""
    names = list(found.names.values())
    shrunk = [name for name in names if name.startswith("staged-fisher of ")]
    return [name for name in names if name not in shrunk], shrunk


def test_evaluations_limit_the_starts() -> None:
    for evaluations in (1, 4, 8, 12):
        problem, found = race_at(BASE + 8 * 26, evaluations=evaluations)
        starts, shrunk = started(found)
        assert len(starts) <= evaluations
        sets = sum(name in module_sets(BLOCKS, problem.limit) for name in starts)
        assert sets <= max(0, evaluations - 8)
        assert len(shrunk) == min(1, sets)


def test_evaluations_are_counted_on_all_examples() -> None:
    found = race_at(BASE + 8 * 26, evaluations=120)[1]
    totals = []
    for incumbent in (0, 1):  # which may stay beside the better half
        left = len(started(found)[0])
        totals.append(left / 8)
        for share in (1 / 8, 1 / 4, 1 / 2):
            left = (left + 1) // 2 + incumbent
            totals[-1] += left * share
    of_sets = len(started(found)[1])
    assert math.ceil(totals[0]) + of_sets <= found.evaluations <= math.ceil(totals[1]) + of_sets
    assert race_at(BASE + 8 * 26, evaluations=8)[1].evaluations == 8


def test_no_set_starts_where_the_largest_fits() -> None:
    problem, found = race_at(ALL, evaluations=120)
    assert problem.cost(BLOCKS.highest) == ALL
    assert len(found.names) <= 8
