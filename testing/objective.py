"""Suite of an objective: it maps configurations to numbers, of which smaller is better."""

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search import Objective, RandomSearch, search


class ObjectiveSuite:
    """Tests of an objective.

    Fixtures to define:
        objective: The `Objective`.
        space: The `Space` whose codes it takes.
    """

    def test_has_a_name(self, objective: Objective) -> None:
        assert isinstance(objective.name, str)
        assert objective.name

    def test_gives_one_number_for_each_configuration(self, objective: Objective, space: Space) -> None:
        for n in (0, 1, 3):
            values = objective(_codes(space, n))
            assert values.shape == (n,)
            assert values.dtype == np.float64

    def test_gives_the_same_number_again_in_any_company(self, objective: Objective, space: Space) -> None:
        codes = _codes(space, 4)
        alone = np.concatenate([objective(row[None]) for row in codes])
        np.testing.assert_allclose(objective(codes[::-1])[::-1], alone, rtol=1e-9)

    def test_does_not_change_the_codes(self, objective: Objective, space: Space) -> None:
        codes = _codes(space, 3)
        objective(codes)
        np.testing.assert_array_equal(codes, _codes(space, 3))

    def test_a_search_minimises_it(self, objective: Objective, space: Space) -> None:
        front = search(RandomSearch(space, seed=0), space, [objective], [], evaluations=6, seed=0)
        assert front.objectives == (objective.name,)
        assert front.members[0].values[0] == min(each.values[0] for each in front.history)


def _codes(space: Space, n: int) -> NDArray[np.int64]:
    return space.at(space.sample(n, np.random.default_rng(5)))
