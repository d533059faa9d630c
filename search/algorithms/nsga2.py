"""NSGA-II on integer genes, using pymoo."""

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

    Children take the choice of each dimension from either parent, and polynomial mutation moves some choices up or
    down. Feasible configurations rank before infeasible ones, and these by increasing violation.

    Args:
        space: Search space.
        seed: The same seed and the same evaluations give the same genes.
        population: Configurations kept from one generation to the next.
        start: Initial genes, proposed before the others. Shape (n, n_axes).

    Raises:
        InputError: `population` is below 4, or `start` is not of this space.

    References:
        Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """

    def __init__(
        self, space: Space, *, seed: int, population: int = 20, start: NDArray[np.int64] | None = None
    ) -> None:
        if population < 4:
            raise InputError(f"a population must be at least 4, not {population}")
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._population = population
        self._queue = self._first_genes(start)
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
        """Initial genes, then children of the population. Shape (n, n_axes)."""
        first, self._queue = self._queue[:n], self._queue[n:]
        genes = np.concatenate([first, self._children(n - len(first))])
        # Random ones before any evaluation, and if all children are in the population.
        return np.concatenate([genes, self._space.spread(n - len(genes), self._rng)])

    def tell(self, genes: NDArray[np.int64], values: NDArray[np.float64], violations: NDArray[np.float64]) -> None:
        """Merges new genes into the population; those already in it are dropped."""
        known = set(map(tuple, self._inner.pop.get("X").tolist())) if self._inner.is_initialized else set()
        rows = new_rows(genes, known)
        if not rows:
            return
        excess = violations[rows]
        # Infeasible genes are compared by their violation alone, but NaN would break the sorting.
        objectives = np.where(excess[:, None] > 0, 0.0, values[rows])
        if self._inner.problem is None:
            upper = self._space.n_choices - 1
            problem = Problem(
                n_var=len(upper), n_obj=objectives.shape[1], n_ieq_constr=1, xl=0 * upper, xu=upper, vtype=int
            )
            # The constructor ignores its termination argument, and the default one ends when values stagnate.
            self._inner.setup(problem, termination=NoTermination())
        self._inner.tell(infills=Population.new("X", genes[rows], "F", objectives, "G", excess[:, None]))

    def _children(self, n: int) -> NDArray[np.int64]:
        if n == 0 or not self._inner.is_initialized or len(self._inner.pop) < 2:
            return self._nothing
        self._inner.n_offsprings = n
        children = self._inner.ask()
        if children is None:  # every generated child is in the population
            return self._nothing
        return np.asarray(children.get("X"), dtype=np.int64).reshape(-1, self._space.n_axes)

    def _first_genes(self, start: NDArray[np.int64] | None) -> NDArray[np.int64]:
        given = self._space.checked_genes(self._nothing if start is None else start)
        highest = self._space.n_choices - 1
        steps = np.linspace(0, 1, int(highest.max()) + 1)[:, None]
        ladder = np.rint(steps * highest).astype(np.int64)
        ladder = ladder[self._space.changes_base(self._space.expand(ladder))]
        known = np.concatenate([given, ladder])
        random = self._space.spread(max(0, self._population - len(known)), self._rng)
        return np.concatenate([known, random])

    @property
    def _nothing(self) -> NDArray[np.int64]:
        return np.empty((0, self._space.n_axes), dtype=np.int64)
