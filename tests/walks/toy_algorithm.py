"""A search algorithm of another package: it changes one choice of the best point it was told of."""

import numpy as np


class Climber:
    def __init__(self, space, *, seed):
        self.space, self.rng = space, np.random.default_rng(seed)
        self.best, self.value = space.sample(1, self.rng)[0], np.inf

    def ask(self, n):
        points = np.where(self.rng.random((n, 1)) < 0.7, self.best, self.space.sample(n, self.rng))
        axis = self.rng.integers(0, self.space.n_axes, n)
        points[np.arange(n), axis] = self.rng.integers(0, self.space.n_choices[axis])
        return points

    def tell(self, points, values):
        best = values[:, 0].argmin() if len(points) else None
        if best is not None and values[best, 0] < self.value:
            self.best, self.value = points[best].copy(), values[best, 0]
