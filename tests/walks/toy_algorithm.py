"""A search algorithm of another package: it changes one choice of the best genes it was told of."""

import numpy as np


class Climber:
    def __init__(self, space, *, seed):
        self.space, self.rng = space, np.random.default_rng(seed)
        self.best, self.value = space.sample(1, self.rng)[0], np.inf

    def ask(self, n):
        genes = np.where(self.rng.random((n, 1)) < 0.7, self.best, self.space.sample(n, self.rng))
        dimension = self.rng.integers(0, self.space.n_axes, n)
        genes[np.arange(n), dimension] = self.rng.integers(0, self.space.n_choices[dimension])
        return genes

    def tell(self, genes, values, violations):
        for row in np.flatnonzero(violations == 0):
            if values[row, 0] < self.value:
                self.best, self.value = genes[row].copy(), values[row, 0]
