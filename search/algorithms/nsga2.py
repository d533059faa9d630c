"""NSGA-II on integer points, using pymoo."""

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.config import Config
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair

from adaptare.core import InputError
from adaptare.profiler import Space
from adaptare.search.budget.candidate import new_rows


class Nsga2:
    """NSGA-II that starts from the ladder of uniform configurations and a spread of random ones.

    Children take the choice of each axis from either parent, and polynomial mutation moves some choices up or down.

    Args:
        space: Search space.
        seed: The same seed and the same evaluations give the same points.
        population: Configurations kept from one generation to the next.

    Raises:
        InputError: `population` is below 4.

    References:
        Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """

    def __init__(self, space: Space, *, seed: int, population: int = 20) -> None:
        if population < 4:
            raise InputError(f"a population must be at least 4, not {population}")
        self._space = space
        self._rng = np.random.default_rng(seed)
        ladder = np.rint(np.linspace(0, 1, int(space.n_choices.max()))[:, None] * space.highest).astype(np.int64)
        ladder = ladder[space.changes_base(space.at(ladder))]
        self._queue = np.concatenate([ladder, space.spread(max(0, population - len(ladder)), self._rng)])
        # Without its compiled part, pymoo would print a warning to stdout, which belongs to the caller.
        Config.warnings["not_compiled"] = False
        self._inner = NSGA2(
            pop_size=population,
            crossover=UniformCrossover(prob=1.0),
            mutation=PM(prob=1.0, eta=3.0, vtype=float, repair=RoundingRepair()),
            eliminate_duplicates=True,
            seed=seed,
        )

    def ask(self, n: int) -> NDArray[np.int64]:
        """Initial points, then children of the population. Shape (n, n_axes)."""
        first, self._queue = self._queue[:n], self._queue[n:]
        points = np.concatenate([first, self._children(n - len(first))])
        # Random ones before any evaluation, and if all children are in the population.
        return np.concatenate([points, self._space.spread(n - len(points), self._rng)])

    def tell(self, points: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Merges new points into the population; those already in it are dropped."""
        known = set(map(tuple, self._inner.pop.get("X").tolist())) if self._inner.is_initialized else set()
        rows = new_rows(points, known)
        if not rows:
            return
        if self._inner.problem is None:
            upper = self._space.highest
            problem = Problem(n_var=len(upper), n_obj=values.shape[1], xl=0 * upper, xu=upper, vtype=int)
            # The constructor ignores its termination argument, and the default one ends when values stagnate.
            self._inner.setup(problem, termination=NoTermination())
        self._inner.tell(infills=Population.new("X", points[rows], "F", values[rows]))

    def _children(self, n: int) -> NDArray[np.int64]:
        if n and self._inner.is_initialized and len(self._inner.pop) >= 2:
            self._inner.n_offsprings = n
            if (children := self._inner.ask()) is not None:  # None: every child is in the population
                return np.asarray(children.get("X"), dtype=np.int64).reshape(-1, self._space.n_axes)
        return np.empty((0, self._space.n_axes), dtype=np.int64)
