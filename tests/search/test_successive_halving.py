from dataclasses import dataclass, field

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
    assert race(loss, CODES) == [1, 2, 0]
    n_computed = {row: len(examples) for row, examples in loss.computed.items()}
    assert n_computed == {0: 400, 1: 400, 2: 400, 3: 200, 4: 100, 5: 50, 6: 50, 7: 50}


def test_the_share_that_is_done_grows_to_one_with_each_configuration() -> None:
    shares = list[float]()
    race(Noisy(np.arange(8.0)), CODES, done=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 8 + 4 + 2 + 2
    assert shares[7] == pytest.approx(1 / 4)


def test_one_configuration_is_left_of_one() -> None:
    assert race(Noisy(np.ones(1)), CODES[:1]) == [0]


@pytest.mark.parametrize("seed", range(4))
def test_a_better_one_replaces_the_incumbent(seed: int) -> None:
    loss = Noisy(np.array([1.0, 1.3, 1.2, 0.7, 1.0, 1.0, 1.1, 1.2]), seed=seed)
    left = race(loss, CODES)
    others = [row for row in left if row]
    row = decide(loss, CODES[0], CODES[others])
    assert row is not None
    assert others[row] == 3


def test_noise_hardly_ever_replaces_the_incumbent() -> None:
    """All are equally good: at most 5 % of races may end with another one."""
    replaced = 0
    for seed in range(100):
        loss = Noisy(np.ones(8), seed=seed)
        others = [row for row in race(loss, CODES) if row]
        replaced += decide(loss, CODES[0], CODES[others]) is not None
    assert replaced <= 12


def test_an_incumbent_without_rival_stays() -> None:
    assert decide(Noisy(np.ones(1)), CODES[0], CODES[:0]) is None
