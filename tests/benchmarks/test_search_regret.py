"""The known optimum of the simulated losses."""

from itertools import product

import numpy as np
import pytest
from search_regret import Simulated, losses, space_of


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_the_optimum_is_that_of_all_configurations(share: float) -> None:
    for seed in range(3):
        simulated = Simulated(space_of("small"), share, seed)
        points = np.array(list(product(range(3), repeat=7)))
        fits = simulated.limit.cost(simulated.space.at(points)) <= simulated.limit.bound
        assert simulated.best() == pytest.approx(simulated.loss(points[fits]).min(), abs=1e-12)


@pytest.mark.slow
def test_a_search_by_known_gains_comes_near_to_the_optimum() -> None:
    simulated = Simulated(space_of("small"), 0.5, 0)
    found = losses(simulated)
    assert set(found) == {"random", "NSGA-II", "greedy, gains within e^±0.5", "staged", "staged, raced"}
    assert all(np.nanmin(each) >= simulated.best() - 1e-9 for each in found.values())
    assert found["staged, raced"][-1] <= found["random"][1]
