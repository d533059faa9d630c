from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adaptare.search.training.quality import PairedLosses
from adaptare.search.training.successive_halving import decide, race


@dataclass
class Noisy(PairedLosses):
    """Losses with a known mean, and noise of examples and of pairs of example and configuration."""

    means: NDArray[np.float64]
    noise: float = 1.0
    n: int = 400
    seed: int = 0
    computed: dict[int, set[int]] = field(default_factory=dict)

    @property
    def tokens(self) -> NDArray[np.int64]:
        return np.full(self.n, 4)

    def sums(self, codes: NDArray[np.int64], examples: NDArray[np.int64] | None = None, /) -> NDArray[np.float64]:
        row = int(codes[0])
        rows = np.arange(self.n) if examples is None else examples
        self.computed.setdefault(row, set()).update(rows.tolist())
        of_example = 10 * np.random.default_rng(self.seed).random(self.n)
        own = self.noise * np.random.default_rng([self.seed, row]).normal(size=self.n)
        found: NDArray[np.float64] = (4 * (self.means[row] + own) + of_example)[rows]
        return found

    def samples(self) -> list[NDArray[np.int64]]:
        return [np.arange(0, self.n, stride) for stride in (8, 4, 2, 1)]


CODES = np.arange(8)[:, None]


def test_the_better_half_goes_on_and_the_incumbent_always() -> None:
    loss = Noisy(np.array([3.0, 1.0, 1.1, 2.0, 2.1, 2.2, 2.3, 2.4]), noise=0.01)
    found = race(loss, CODES)
    assert found.left == [1, 2, 0]
    n_computed = {row: len(examples) for row, examples in loss.computed.items()}
    assert n_computed == {0: 400, 1: 400, 2: 400, 3: 200, 4: 100, 5: 50, 6: 50, 7: 50}
    assert found.evaluations == sum(n_computed.values()) / 400


def test_the_share_that_is_done_grows_to_one_with_each_configuration() -> None:
    shares = list[float]()
    race(Noisy(np.arange(8.0)), CODES, done=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 8 + 4 + 2 + 2
    assert shares[7] == pytest.approx(1 / 4)


@pytest.mark.parametrize("seed", range(2))
def test_a_better_one_replaces_the_incumbent(seed: int) -> None:
    loss = Noisy(np.array([1.0, 1.3, 1.2, 0.7, 1.0, 1.0, 1.1, 1.2]), seed=seed)
    left = race(loss, CODES).left
    others = [row for row in left if row]
    row = decide(loss, CODES[0], CODES[others])
    assert row is not None
    assert others[row] == 3


def chosen(means: NDArray[np.float64], **noise: Any) -> float:
    """Mean of the configuration that is left."""
    others = np.arange(1, len(means))[:, None]
    row = decide(Noisy(means, **noise), CODES[0], others)
    return float(means[0 if row is None else 1 + row])


@pytest.mark.parametrize("worse", [[], [1.5, 2.0, 3.0]])
def test_what_noise_explains_does_not_replace_the_incumbent(worse: list[float]) -> None:
    """Seven others are equally worse, by two standard errors of a loss, and some are much worse."""
    means = np.array([1.0, *[1.1] * 7, *worse])
    lowest = [np.argmin(Noisy(means, seed=seed).each(CODES).sum(axis=1)) for seed in range(100)]
    assert np.mean([row > 0 for row in lowest]) > 0.2
    assert np.mean([chosen(means, seed=seed) > 1 for seed in range(100)]) < 0.1


def test_chosen_ones_are_better_on_the_mean_where_others_differ() -> None:
    spread = 0.03
    drawn = [np.random.default_rng(seed).normal(1.0 + spread, spread, size=8) for seed in range(100)]
    found = [chosen(np.array([1.0, *means[1:]]), noise=0.4, seed=seed) for seed, means in enumerate(drawn)]
    assert np.mean(found) < 1 - 0.2 * spread


def test_one_rival_replaces_the_incumbent_if_its_loss_is_lower() -> None:
    for means in ([1.0, 0.999], [1.0, 1.001]):
        assert chosen(np.array(means), noise=1e-4) == min(means)


def test_equal_losses_single_examples_and_no_rivals_replace_nothing() -> None:
    assert race(Noisy(np.ones(1)), CODES[:1]).left == [0]
    assert decide(Noisy(np.ones(1)), CODES[0], CODES[:0]) is None
    assert decide(Noisy(np.ones(8), noise=0.0), CODES[0], CODES[1:]) is None
    assert decide(Noisy(np.arange(8.0)[::-1], noise=0.0, n=1), CODES[0], CODES[1:]) is None


def test_of_rivals_that_noise_makes_different_the_lowest_is_chosen() -> None:
    found = []
    for seed in range(50):
        loss = Noisy(np.array([1.5, *[1.0] * 7]), seed=seed)
        found.append(decide(loss, CODES[0], CODES[1:]) == np.argmin(loss.each(CODES[1:]).sum(axis=1)))
    assert np.mean(found) > 0.9
