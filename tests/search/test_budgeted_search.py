from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray
from pymoo.indicators.hv import HV

from adaptare.core import AdaptareError, InputError
from adaptare.core.units import milliseconds
from adaptare.profiler import Configuration, ModelShape, Space, named_space
from adaptare.search import Algorithm, Front, InfeasibleBudgetError, Limit, Nsga2, RandomSearch, search
from adaptare.search.budget.candidate import Candidate

RANKS = (0, 2, 4, 8, 16)


def llama(layers: int) -> ModelShape:
    return ModelShape.from_mapping(
        {
            "model_type": "llama",
            "num_hidden_layers": layers,
            "hidden_size": 32,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "intermediate_size": 64,
            "vocab_size": 64,
        }
    )


@dataclass
class Counted:
    """A function of codes that remembers what it was asked."""

    name: str
    function: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    asked: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        self.asked.extend(tuple(row) for row in codes.tolist())
        return self.function(codes)


class Knapsack:
    """Groups that each lower the loss by a gain and cost whole microseconds, so that the optimum is known."""

    base_loss = 3.0
    base_us = 1000

    def __init__(self, *, seed: int, layers: int = 6, share: float = 0.4) -> None:
        self.space = named_space("blocks", llama(layers), ranks=RANKS)
        rng = np.random.default_rng(seed)
        steps = np.log1p(RANKS)
        self.gains = rng.exponential(size=(self.space.n_axes, 1)) * steps
        self.gains /= self.gains[:, -1].sum()
        call, rank = (rng.integers(*ends, size=(self.space.n_axes, 1)) for ends in ((20, 80), (1, 4)))
        self.costs_us = np.where(np.array(RANKS) > 0, call + rank * np.array(RANKS), 0)
        self.slack_us = int(share * self.costs_us[:, -1].sum())
        self.loss = Counted("loss_nats", lambda codes: self.base_loss - self._sum(self.gains, codes))
        self.latency = Counted("latency_s", lambda codes: 1e-6 * (self.base_us + self._sum(self.costs_us, codes)))
        # Half a microsecond of room, so that rounding does not decide.
        self.limit = Limit(self.latency, 1e-6 * (self.base_us + self.slack_us + 0.5))

    def _sum(self, table: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        points = np.searchsorted(
            RANKS, codes[:, np.cumsum([0, *(len(axis.dimensions) for axis in self.space.axes)])[:-1]]
        )
        return table[np.arange(self.space.n_axes), points].sum(axis=1)

    def best_gain(self) -> float:
        """By dynamic programming over microseconds: exact."""
        best = np.zeros(self.slack_us + 1)
        for gains, costs in zip(self.gains, self.costs_us, strict=True):
            options = [
                np.concatenate([np.full(c, -np.inf), best])[: len(best)] + g for g, c in zip(gains, costs, strict=True)
            ]
            best = np.max(options, axis=0)
        return float(best.max())

    def front(self, algorithm: Algorithm, *, evaluations: int = 100, seed: int = 0) -> Front:
        return search(
            algorithm,
            self.space,
            [self.loss, self.latency],
            [self.limit],
            evaluations=evaluations,
            seed=seed,
        )

    def volume(self, front: Front) -> float:
        return float(
            HV(ref_point=np.array([self.base_loss, self.limit.bound]))(np.array([one.values for one in front.members]))
        )


ALGORITHMS: list[Callable[[Space, int], Algorithm]] = [
    lambda space, seed: Nsga2(space, seed=seed),
    lambda space, seed: RandomSearch(space, seed=seed),
]
both = pytest.mark.parametrize("make", ALGORITHMS, ids=["nsga2", "random"])
Make = Callable[[Space, int], Algorithm]


def test_dynamic_programming_finds_the_optimum_of_a_small_space() -> None:
    knapsack = Knapsack(seed=0, layers=2)
    points = np.stack(np.meshgrid(*[np.arange(len(RANKS))] * 4), axis=-1).reshape(-1, 4)
    codes = knapsack.space.at(points)
    fits = knapsack.latency(codes) <= knapsack.limit.bound
    assert knapsack.best_gain() == pytest.approx(knapsack.base_loss - knapsack.loss(codes[fits]).min(), rel=1e-12)


def test_nsga2_is_not_worse_than_random_search_with_equal_evaluations() -> None:
    volumes = []
    for seed in range(5):
        knapsack = Knapsack(seed=seed)
        fronts = [
            knapsack.front(algorithm, seed=seed)
            for algorithm in (Nsga2(knapsack.space, seed=seed), RandomSearch(knapsack.space, seed=seed))
        ]
        assert [len(front.history) for front in fronts] == [100, 100]
        volumes.append([knapsack.volume(front) for front in fronts])
    searched, at_random = np.median(volumes, axis=0)
    assert searched >= at_random


@both
def test_a_small_space_is_searched_to_its_end_and_no_further(make: Make) -> None:
    knapsack = Knapsack(seed=1, layers=1, share=0.8)
    points = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)[1:]
    codes = knapsack.space.at(points)
    feasible = {*map(knapsack.space.decode, codes[knapsack.latency(codes) <= knapsack.limit.bound])}
    front = knapsack.front(make(knapsack.space, 0), evaluations=1000)
    assert {candidate.configuration for candidate in front.history} == feasible
    assert knapsack.base_loss - front.members[0].values[0] == pytest.approx(knapsack.best_gain(), rel=1e-12)


@both
@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_all_that_was_evaluated_meets_the_limit(make: Make, share: float) -> None:
    knapsack = Knapsack(seed=2, share=share)
    front = knapsack.front(make(knapsack.space, 0), evaluations=40)
    assert front.members
    for candidate in front.history:
        assert candidate.upper[0] <= knapsack.limit.bound


@both
def test_of_one_objective_only_configurations_that_use_the_whole_budget_are_evaluated(make: Make) -> None:
    knapsack = Knapsack(seed=2)
    objectives, limit = [knapsack.loss], knapsack.limit
    front = search(make(knapsack.space, 0), knapsack.space, objectives, [limit], evaluations=20, seed=0)
    cheapest = 1e-6 * np.diff(knapsack.costs_us, axis=1).max()
    assert len(front.history) == 20
    assert all(limit.bound - cheapest < candidate.upper[0] <= limit.bound for candidate in front.history)


@both
def test_a_configuration_without_adapter_is_never_evaluated(make: Make) -> None:
    knapsack = Knapsack(seed=2, share=0.05)
    knapsack.front(make(knapsack.space, 0), evaluations=60)
    assert all(any(codes) for codes in knapsack.loss.asked)


@both
@pytest.mark.parametrize("evaluations", [1, 7, 30])
def test_the_loss_is_evaluated_exactly_as_often_as_allowed_and_never_twice_on_the_same(
    make: Make, evaluations: int
) -> None:
    knapsack = Knapsack(seed=3)
    front = knapsack.front(make(knapsack.space, 0), evaluations=evaluations)
    assert len(knapsack.loss.asked) == len(set(knapsack.loss.asked)) == len(front.history) == evaluations


@both
def test_the_same_seed_gives_the_same_front(make: Make) -> None:
    fronts = [
        knapsack.front(make(knapsack.space, 5), evaluations=40, seed=5)
        for knapsack in (Knapsack(seed=4), Knapsack(seed=4))
    ]
    assert fronts[0] == fronts[1]


@both
def test_another_seed_gives_another_search(make: Make) -> None:
    knapsack = Knapsack(seed=4)
    histories = [knapsack.front(make(knapsack.space, seed), evaluations=40, seed=seed).history for seed in (5, 6)]
    assert histories[0] != histories[1]


def test_nsga2_evaluates_the_uniform_configurations_that_fit() -> None:
    knapsack = Knapsack(seed=0, share=0.8)
    uniform = np.repeat(np.array(RANKS)[1:, None], len(knapsack.space.dimensions), axis=1)
    fits = uniform[knapsack.latency(uniform) <= knapsack.limit.bound]
    front = knapsack.front(Nsga2(knapsack.space, seed=0), evaluations=8)
    assert 1 <= len(fits) < len(uniform)
    assert set(map(knapsack.space.decode, fits)) <= {candidate.configuration for candidate in front.history}


def test_given_points_are_repaired_and_evaluated_first_and_told_to_the_algorithm() -> None:
    knapsack, told = Knapsack(seed=0), []

    class Listening(RandomSearch):
        def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
            told.extend(map(tuple, points.tolist()))

    start = np.stack([knapsack.space.highest, 0 * knapsack.space.n_choices])
    start[1, 3] = 1
    algorithm = Listening(knapsack.space, seed=0)
    space, limit = knapsack.space, knapsack.limit
    front = search(algorithm, space, [knapsack.loss], [limit], evaluations=12, seed=0, batch=1, start=start)
    assert len(front.history) == len(told) == 12
    assert told[0] != tuple(start[0])
    assert told[1] == tuple(start[1])
    assert front.history[1].configuration == space.decode(space.at(start[1]))
    assert all(candidate.upper[0] <= limit.bound for candidate in front.history)


@pytest.mark.parametrize(
    ("start", "got"),
    [
        (np.zeros(3), r"shape \(3,\) with \[0\]"),
        (np.full((1, 12), 5), r"shape \(1, 12\) with \[5\]"),
        (np.full((2, 12), -1), r"shape \(2, 12\) with \[-1\]"),
    ],
)
def test_points_of_another_space_are_refused(start: NDArray[np.int64], got: str) -> None:
    knapsack = Knapsack(seed=0)
    algorithm, space = RandomSearch(knapsack.space, seed=0), knapsack.space
    with pytest.raises(InputError, match=f"space 'blocks' has 12 numbers from 0 to below .*; got an array of {got}"):
        search(algorithm, space, [knapsack.loss], [], evaluations=1, seed=0, start=start)
    assert knapsack.loss.asked == []


def test_an_impossible_budget_is_said_with_the_smallest_latency_reachable() -> None:
    knapsack = Knapsack(seed=0)
    knapsack.base_us = 1  # so that three digits tell whole microseconds apart
    cheapest_us = knapsack.base_us + knapsack.costs_us[:, 1].min()
    limit = Limit(knapsack.latency, 1e-6 * (cheapest_us - 1))
    bound, smallest, base = (milliseconds(each) for each in (limit.bound, 1e-6 * cheapest_us, 1e-6 * knapsack.base_us))
    words = f"has latency <= {bound} ms: the smallest reachable is {smallest} ms, and that of the base {base} ms; raise"
    with pytest.raises(InfeasibleBudgetError, match=words) as caught:
        search(RandomSearch(knapsack.space, seed=0), knapsack.space, [knapsack.loss], [limit], evaluations=9, seed=0)
    assert isinstance(caught.value, AdaptareError)


def test_a_budget_below_the_base_is_said_to_be_so() -> None:
    knapsack = Knapsack(seed=0)
    limit = Limit(knapsack.latency, 1e-6 * (knapsack.base_us - 1))
    with pytest.raises(InfeasibleBudgetError, match="the base is above that already: choose a faster base"):
        search(RandomSearch(knapsack.space, seed=0), knapsack.space, [knapsack.loss], [limit], evaluations=9, seed=0)
    assert knapsack.loss.asked == []


def test_a_budget_for_one_smallest_adapter_finds_that_one() -> None:
    knapsack = Knapsack(seed=0)
    costs = knapsack.costs_us[:, 1]
    limit = Limit(knapsack.latency, 1e-6 * (knapsack.base_us + costs.min() + 0.5))
    front = search(
        RandomSearch(knapsack.space, seed=0), knapsack.space, [knapsack.loss], [limit], evaluations=9, seed=0
    )
    cheapest = np.zeros((1, knapsack.space.n_axes), dtype=np.int64)
    cheapest[0, np.argmin(costs)] = 1
    assert [candidate.configuration for candidate in front.members] == [
        knapsack.space.decode(knapsack.space.at(cheapest)[0])
    ]


def test_every_limit_is_met() -> None:
    knapsack = Knapsack(seed=0)
    ranks = Counted("ranks", lambda codes: codes.sum(axis=1).astype(np.float64))
    front = search(
        RandomSearch(knapsack.space, seed=0),
        knapsack.space,
        [knapsack.loss],
        [knapsack.limit, Limit(ranks, 60.0)],
        evaluations=30,
        seed=0,
    )
    assert len(front.history) == 30
    assert all(sum(candidate.configuration.by_path.values()) <= 60 for candidate in front.history)
    assert all(candidate.upper[0] <= knapsack.limit.bound for candidate in front.history)


def test_a_search_needs_no_limit() -> None:
    knapsack = Knapsack(seed=0)
    front = search(Nsga2(knapsack.space, seed=0), knapsack.space, [knapsack.loss], [], evaluations=20, seed=0)
    assert front.members[0].configuration == Configuration.uniform(knapsack.space.shape, 16)


def test_progress_is_told_of_every_candidate_in_order() -> None:
    knapsack = Knapsack(seed=0)
    told: list[Candidate] = []
    front = search(
        RandomSearch(knapsack.space, seed=0),
        knapsack.space,
        [knapsack.loss],
        [knapsack.limit],
        evaluations=20,
        seed=0,
        progress=told.append,
    )
    assert tuple(told) == front.history


def test_a_stopped_search_returns_what_it_has() -> None:
    knapsack = Knapsack(seed=0)
    told: list[Candidate] = []

    def tenth(candidate: Candidate) -> bool:
        told.append(candidate)
        return len(told) == 10

    front = search(
        RandomSearch(knapsack.space, seed=0),
        knapsack.space,
        [knapsack.loss],
        [knapsack.limit],
        evaluations=100,
        seed=0,
        batch=5,
        progress=tenth,
    )
    assert len(front.history) == 10
    assert front.members


def test_a_loss_that_is_no_number_stays_in_the_history_alone() -> None:
    knapsack = Knapsack(seed=0)
    broken = Counted("loss_nats", lambda codes: np.where(codes[:, 0] > 0, np.nan, knapsack.loss.function(codes)))
    front = search(
        Nsga2(knapsack.space, seed=0),
        knapsack.space,
        [broken, knapsack.latency],
        [knapsack.limit],
        evaluations=60,
        seed=0,
    )
    assert any(np.isnan(candidate.values[0]) for candidate in front.history)
    assert np.all(np.isfinite(np.array([one.values for one in front.members])))


def test_an_objective_of_the_wrong_shape_is_named() -> None:
    knapsack = Knapsack(seed=0)
    scalar = Counted("loss_nats", lambda codes: np.zeros(1))
    with pytest.raises(InputError, match=r"loss_nats must return one value for each of 8 configurations, .* \(1,\)"):
        search(RandomSearch(knapsack.space, seed=0), knapsack.space, [scalar], [], evaluations=8, seed=0)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("evaluations", {"evaluations": 0}), ("batch", {"evaluations": 1, "batch": 0})],
)
def test_counts_below_one_are_refused(name: str, arguments: dict[str, int]) -> None:
    knapsack = Knapsack(seed=0)
    with pytest.raises(InputError, match=f"{name} must be at least 1, not 0"):
        search(RandomSearch(knapsack.space, seed=0), knapsack.space, [knapsack.loss], [], seed=0, **arguments)


def test_a_search_without_objective_is_refused() -> None:
    knapsack = Knapsack(seed=0)
    with pytest.raises(InputError, match="objectives must be at least 1, not 0"):
        search(RandomSearch(knapsack.space, seed=0), knapsack.space, [], [], evaluations=1, seed=0)
