from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.core import AdaptareError, InputError
from adaptare.core.units import milliseconds
from adaptare.profiler import ModelShape, Space, named_space
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


Make = Callable[[Space, int], Algorithm]


def nsga2(space: Space, seed: int) -> Algorithm:
    return Nsga2(space, seed=seed)


def at_random(space: Space, seed: int) -> Algorithm:
    return RandomSearch(space, seed=seed)


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

    def front(self, make: Make, *, evaluations: int = 100, seed: int = 0) -> Front:
        objectives = [self.loss, self.latency]
        return search(make(self.space, seed), self.space, objectives, [self.limit], evaluations=evaluations, seed=seed)

    def lowest_loss(self, limits: list[Limit], *, evaluations: int = 9, **options: Any) -> Front:
        """Front of the loss alone, by random search."""
        algorithm = options.pop("algorithm", RandomSearch(self.space, seed=0))
        objectives = options.pop("objectives", [self.loss])
        return search(algorithm, self.space, objectives, limits, evaluations=evaluations, seed=0, **options)


both = pytest.mark.parametrize("make", [nsga2, at_random])


@both
def test_a_small_space_is_searched_to_its_end_and_no_further(make: Make) -> None:
    knapsack = Knapsack(seed=1, layers=1, share=0.8)
    points = np.stack(np.meshgrid(np.arange(5), np.arange(5)), axis=-1).reshape(-1, 2)[1:]
    codes = knapsack.space.at(points)
    feasible = {*map(knapsack.space.decode, codes[knapsack.latency(codes) <= knapsack.limit.bound])}
    best = knapsack.loss(codes[knapsack.latency(codes) <= knapsack.limit.bound]).min()
    front = knapsack.front(make, evaluations=1000)
    assert {candidate.configuration for candidate in front.history} == feasible
    assert front.members[0].values[0] == pytest.approx(best, rel=1e-12)


@both
@pytest.mark.parametrize("share", [0.05, 0.3])
def test_all_that_was_evaluated_meets_the_limit_and_has_an_adapter(make: Make, share: float) -> None:
    knapsack = Knapsack(seed=2, share=share)
    front = knapsack.front(make, evaluations=40)
    assert front.members
    assert all(any(codes) for codes in knapsack.loss.asked)
    for candidate in front.history:
        assert candidate.upper[0] <= knapsack.limit.bound


@both
def test_of_one_objective_only_configurations_that_use_the_whole_budget_are_evaluated(make: Make) -> None:
    knapsack = Knapsack(seed=2)
    limit = knapsack.limit
    front = knapsack.lowest_loss([limit], algorithm=make(knapsack.space, 0), evaluations=20)
    cheapest = 1e-6 * np.diff(knapsack.costs_us, axis=1).max()
    assert len(front.history) == 20
    assert all(limit.bound - cheapest < candidate.upper[0] <= limit.bound for candidate in front.history)


@both
def test_the_loss_is_evaluated_exactly_as_often_as_allowed_and_never_twice_on_the_same(make: Make) -> None:
    knapsack = Knapsack(seed=3)
    front = knapsack.front(make, evaluations=27)
    assert len(knapsack.loss.asked) == len(set(knapsack.loss.asked)) == len(front.history) == 27


@both
def test_the_same_seed_gives_the_same_front(make: Make) -> None:
    fronts = [knapsack.front(make, evaluations=40, seed=5) for knapsack in (Knapsack(seed=4), Knapsack(seed=4))]
    assert fronts[0] == fronts[1]


def test_nsga2_evaluates_the_uniform_configurations_that_fit() -> None:
    knapsack = Knapsack(seed=0, share=0.8)
    uniform = np.repeat(np.array(RANKS)[1:, None], len(knapsack.space.dimensions), axis=1)
    fits = uniform[knapsack.latency(uniform) <= knapsack.limit.bound]
    front = knapsack.front(nsga2, evaluations=8)
    assert 1 <= len(fits) < len(uniform)
    assert set(map(knapsack.space.decode, fits)) <= {candidate.configuration for candidate in front.history}


def test_given_points_are_repaired_and_evaluated_first_and_told_to_the_algorithm() -> None:
    knapsack, told = Knapsack(seed=0), []

    class Listening(RandomSearch):
        def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
            told.extend(map(tuple, points.tolist()))

    start = np.stack([knapsack.space.highest, 0 * knapsack.space.n_choices])
    start[1, 3] = 1
    space, limit = knapsack.space, knapsack.limit
    front = knapsack.lowest_loss([limit], algorithm=Listening(space, seed=0), evaluations=12, batch=1, start=start)
    assert len(front.history) == len(told) == 12
    assert told[0] != tuple(start[0])
    assert told[1] == tuple(start[1])
    assert front.history[1].configuration == space.decode(space.at(start[1]))
    assert all(candidate.upper[0] <= limit.bound for candidate in front.history)


def test_points_of_another_space_are_refused() -> None:
    knapsack = Knapsack(seed=0)
    for start, got in ((np.zeros(3), r"\(3,\) with \[0\]"), (np.full((1, 12), 5), r"\(1, 12\) with \[5\]")):
        refusal = f"space 'blocks' has 12 numbers from 0 to below .*; got an array of shape {got}"
        with pytest.raises(InputError, match=refusal):
            knapsack.lowest_loss([], start=start)
    assert knapsack.loss.asked == []


def test_an_impossible_budget_is_said_with_the_smallest_latency_reachable() -> None:
    knapsack = Knapsack(seed=0)
    knapsack.base_us = 1  # so that three digits tell whole microseconds apart
    cheapest_us = knapsack.base_us + knapsack.costs_us[:, 1].min()
    limit = Limit(knapsack.latency, 1e-6 * (cheapest_us - 1))
    bound, smallest, base = (milliseconds(each) for each in (limit.bound, 1e-6 * cheapest_us, 1e-6 * knapsack.base_us))
    words = f"has latency <= {bound} ms: the smallest reachable is {smallest} ms, and that of the base {base} ms; raise"
    with pytest.raises(InfeasibleBudgetError, match=words) as caught:
        knapsack.lowest_loss([limit])
    assert isinstance(caught.value, AdaptareError)


def test_a_budget_below_the_base_is_said_to_be_so() -> None:
    knapsack = Knapsack(seed=0)
    limit = Limit(knapsack.latency, 1e-6 * (knapsack.base_us - 1))
    with pytest.raises(InfeasibleBudgetError, match="the base is above that already: choose a faster base"):
        knapsack.lowest_loss([limit])
    assert knapsack.loss.asked == []


def test_every_limit_is_met() -> None:
    knapsack = Knapsack(seed=0)
    ranks = Counted("ranks", lambda codes: codes.sum(axis=1).astype(np.float64))
    front = knapsack.lowest_loss([knapsack.limit, Limit(ranks, 60.0)], evaluations=30)
    assert len(front.history) == 30
    assert all(sum(candidate.configuration.by_path.values()) <= 60 for candidate in front.history)
    assert all(candidate.upper[0] <= knapsack.limit.bound for candidate in front.history)


def test_a_stopped_search_returns_what_it_has() -> None:
    knapsack = Knapsack(seed=0)
    told: list[Candidate] = []

    def tenth(candidate: Candidate) -> bool:
        told.append(candidate)
        return len(told) == 10

    front = knapsack.lowest_loss([knapsack.limit], evaluations=100, batch=5, progress=tenth)
    assert front.history == tuple(told)
    assert len(told) == 10


def test_a_loss_that_is_no_number_stays_in_the_history_alone() -> None:
    knapsack = Knapsack(seed=0)
    broken = Counted("loss_nats", lambda codes: np.where(codes[:, 0] > 0, np.nan, knapsack.loss.function(codes)))
    front = knapsack.lowest_loss([knapsack.limit], objectives=[broken, knapsack.latency], evaluations=60)
    assert any(np.isnan(candidate.values[0]) for candidate in front.history)
    assert np.all(np.isfinite(np.array([one.values for one in front.members])))


def test_an_objective_of_the_wrong_shape_is_named() -> None:
    knapsack = Knapsack(seed=0)
    scalar = Counted("loss_nats", lambda codes: np.zeros(1))
    with pytest.raises(InputError, match=r"loss_nats must return one value for each of 8 configurations, .* \(1,\)"):
        knapsack.lowest_loss([], objectives=[scalar], evaluations=8)


@pytest.mark.parametrize(
    ("name", "options"),
    [("evaluations", {"evaluations": 0}), ("batch", {"batch": 0}), ("objectives", {"objectives": []})],
)
def test_counts_below_one_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, not 0"):
        Knapsack(seed=0).lowest_loss([], **options)
