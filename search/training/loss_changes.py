"""Estimated changes of the loss by each choice of a space, from gradients at gates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.gates import Gates, gate_gradients
from adaptare.search.training.token_examples import TokenExample


@dataclass(frozen=True)
class FisherChanges:
    """Estimates a `LossChanges` table by the empirical Fisher matrix at the present configuration.

    What a choice adds or leaves out is a set of gates, whose gradients sum to t for an example. The loss of the
    examples is expected to change by the sum of t^2 / 2: the second-order term of its Taylor series, with the Fisher
    matrix in place of the Hessian. The first-order term is left out; at a trained configuration it is noise.

    Args:
        super_adapter: Trained super-adapter of separable layers.
        space: Space with the same dimensions.
        examples: Training examples, one forward and one backward pass each for a table.

    References:
        Molchanov et al. 2019, "Importance estimation for neural network pruning", section 3.
    """

    super_adapter: SuperAdapter = field(repr=False)
    space: Space
    examples: Sequence[TokenExample] = field(repr=False)

    @cached_property
    def gates(self) -> Gates:
        """Gradients at the gates of every dimension at the largest configuration."""
        return gate_gradients(self.super_adapter, self.space.at(self.space.highest), self.examples)

    def __call__(self, point: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n_axes,) -> (n_axes, largest number of choices); nats of all examples together."""
        if np.array_equal(point, self.space.highest):
            return fisher_changes(self.space, point, self.gates)
        return fisher_changes(
            self.space, point, gate_gradients(self.super_adapter, self.space.at(point), self.examples)
        )


def fisher_changes(space: Space, point: NDArray[np.int64], gates: Gates) -> NDArray[np.float64]:
    """Changes of the loss by squared gradients at gates; see `FisherChanges`."""
    return _table(space, point, gates, 2)


def slope_changes(space: Space, point: NDArray[np.int64], gates: Gates) -> NDArray[np.float64]:
    """Changes of the loss by the mean absolute gradient at each gate, which is the first-order term.

    References:
        Michel et al. 2019, "Are sixteen heads really better than one?", section 4.1.
    """
    means = {each: np.abs(own).mean(axis=0, keepdims=True) for each, own in gates.items()}
    return _table(space, point, means, 1)


def _table(space: Space, point: NDArray[np.int64], gates: Gates, power: int) -> NDArray[np.float64]:
    """Sum over the rows of |t|^power / power, positive below the point and negative above; never falling with size."""
    table = np.full((space.n_axes, int(space.n_choices.max())), np.nan)
    for number, axis in enumerate(space.axes):
        own = [gates[each] for each in axis.dimensions]
        if not all(each.shape[1] for each in own):
            continue
        kept = axis.values(np.array(axis.choices, dtype=np.int64))  # (n_choices, n_dimensions)
        totals = np.sum(
            [
                np.column_stack([np.zeros(len(each)), np.cumsum(each, axis=1)])[:, values]
                for each, values in zip(own, kept.T, strict=True)
            ],
            axis=0,
        )
        present = int(point[number])
        sizes = (np.abs(totals - totals[:, [present]]) ** power / power).sum(axis=0)
        below, above = np.maximum.accumulate(sizes[present::-1])[::-1], np.maximum.accumulate(sizes[present:])
        table[number, : len(axis.choices)] = [*below, *-above[1:]]
    return table
