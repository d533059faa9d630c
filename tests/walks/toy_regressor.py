"""A regressor of another package: the mean of all measured rows, weighted by how near they are."""

import numpy as np


class Nearby:
    def fit(self, X, y):
        self.rows, self.ratios, largest = X.copy(), y.copy(), np.abs(X).max(axis=0)
        self.scale = np.where(largest > 0, largest, np.inf)
        return self

    def predict(self, X):
        far = np.linalg.norm((X[:, None] - self.rows) / self.scale, axis=2)
        near = 1 / (far + 1e-3) ** 4
        return (near * self.ratios).sum(axis=1) / near.sum(axis=1)

    def state(self):
        return {"rows": self.rows, "ratios": self.ratios, "scale": self.scale}

    @classmethod
    def from_state(cls, state):
        made = cls()
        made.rows, made.ratios, made.scale = state["rows"], state["ratios"], state["scale"]
        return made
