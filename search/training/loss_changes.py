"""Estimated changes of the loss by each choice of a space, from gradients at gates."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.profiler import WIDTH, Axis, Space
from adaptare.profiler.workloads import LAYER, Dimension
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.passes import completion_logits, evaluated_at, pad_batch, seen
from adaptare.search.training.record import hash_of
from adaptare.search.training.remembered import Remembered
from adaptare.search.training.token_examples import TokenExample

Gates = Mapping[Dimension, NDArray[np.float64]]
# Of an axis, from its `gate_sums` and the number of the present choice.
Changes = Callable[[Axis, NDArray[np.float64], int], NDArray[np.float64]]


def gate_gradients(
    super_adapter: SuperAdapter, codes: NDArray[np.int64], examples: Sequence[TokenExample], *, batch_size: int = 8
) -> Gates:
    """Gradient of the loss of each example at a gate on each part that a dimension keeps or leaves out.

    A gate is a factor on the output of one component of an adapter, y = W x + factor * sum over k of g[k] B[:, k]
    (A[k] x), on one neuron of an MLP, or on the update of the residual stream by one layer. It is 1 for what is
    active, and 0 for components of adapters above the active rank, which therefore have gradients too. Neurons and
    layers that are left out have 0, and other dimensions no gates.

    Args:
        super_adapter: Trained super-adapter of separable layers; weights and active configuration are unchanged.
        codes: Configuration at which the gradients are taken, shape (n_columns,).
        examples: Training examples, not those that judge the result.
        batch_size: Examples per pass.

    Returns:
        Dimension -> shape (n_examples, n_gates): as many as the largest rank, the neurons, or one layer. Nats of the
        whole completion.

    Raises:
        InputError: There is no example.

    References:
        Michel et al. 2019, "Are sixteen heads really better than one?", section 4.1; Molchanov et al. 2019,
        "Importance estimation for neural network pruning", section 3.
    """
    if not examples:
        raise InputError("gradients of gates need at least one training example; pass some")
    space, shape = super_adapter.space, super_adapter.shape
    sizes = {each: _gates_of(each, super_adapter) for each in space.dimensions}
    gates = {each: np.zeros((len(examples), size)) for each, size in sizes.items()}
    kept = space.decode(codes).kept(shape.layers)
    last: dict[Dimension, tuple[torch.Tensor, torch.Tensor]] = {}
    with ExitStack() as hooks, evaluated_at(super_adapter, codes, gradients=True) as model:
        hooks.enter_context(model.get_input_embeddings().register_forward_hook(_with_gradient))
        layers = dict(zip(kept, model.get_submodule("model.layers").children(), strict=True))
        gated = [each for each, size in sizes.items() if size and each.layer in layers]
        modules = {each: _module_of(each, super_adapter, layers) for each in gated}
        hooks.enter_context(seen(modules, lambda dimension, x, y: last.update({dimension: (x, y)})))
        order = np.argsort([len(example.ids) for example in examples], kind="stable")  # saves padding
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            logits, labels = completion_logits(model, pad_batch([examples[row] for row in rows], model.device))
            loss = functional.cross_entropy(logits, labels, reduction="sum")
            slopes = torch.autograd.grad(
                loss, [x if each.kind == WIDTH else y for each, (x, y) in last.items()], allow_unused=True
            )
            for (dimension, (x, y)), slope in zip(last.items(), slopes, strict=True):
                if slope is not None:
                    own = _gates(dimension, modules[dimension], x.detach(), y.detach(), slope)
                    gates[dimension][rows, : own.shape[1]] = own.double().cpu().numpy()
            last.clear()
    return gates


def _gates_of(dimension: Dimension, super_adapter: SuperAdapter) -> int:
    """Number of gates of a dimension; 0 for kinds that have none here."""
    if dimension.kind.of_linears and not dimension.kind.cuts:
        return super_adapter.linears[dimension.place].largest if dimension.place in super_adapter.linears else 0
    return {WIDTH: super_adapter.shape.intermediate, LAYER: 1}.get(dimension.kind, 0)


def _module_of(dimension: Dimension, super_adapter: SuperAdapter, layers: Mapping[int, nn.Module]) -> nn.Module:
    place = dimension.place
    if dimension.kind == WIDTH:
        down = [each for each in super_adapter.shape.sites if each.kind == "down_proj"]
        place = next(each.path for each in down if each.layer == dimension.layer)
    modules: Mapping[Any, nn.Module] = layers if dimension.kind == LAYER else super_adapter.linears
    return modules[place]


def _with_gradient(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    return output.requires_grad_()  # also linears without an active adapter are then in the graph


def _gates(
    dimension: Dimension, module: nn.Module, x: torch.Tensor, y: torch.Tensor, slope: torch.Tensor
) -> torch.Tensor:
    """Gradients at gates, summed over the tokens of each example. Shape (batch, n_gates)."""
    if dimension.kind == WIDTH:
        return (x * slope).sum(dim=1)
    if dimension.kind == LAYER:
        return ((y - x) * slope).sum(dim=(1, 2))[:, None]
    if not isinstance(module, ElasticLinear):
        raise TypeError(f"{dimension} is of a {type(module).__name__}")
    A, B = module.A.detach()[:, module.part.inputs], module.B.detach()[module.part.outputs]
    inner = functional.linear(x.to(A.dtype), A) * functional.linear(slope.to(B.dtype), B.T)
    return module.factor * inner.sum(dim=1)


def gate_sums(axis: Axis, gates: Gates, present: int) -> NDArray[np.float64]:
    """Sums of gradients over the gates that each choice of an axis adds, or minus that over those it leaves out.

    Args:
        axis: Axis of a space, whose dimensions have gates.
        gates: From `gate_gradients`.
        present: Number of the present choice.

    Returns:
        Shape (n_examples, n_choices); 0 for the present choice.
    """
    kept = axis.values(np.array(axis.choices, dtype=np.int64))  # (n_choices, n_dimensions)
    totals = np.sum(
        [
            np.column_stack([np.zeros(len(gates[each])), np.cumsum(gates[each], axis=1)])[:, values]
            for each, values in zip(axis.dimensions, kept.T, strict=True)
        ],
        axis=0,
    )
    found: NDArray[np.float64] = totals - totals[:, [present]]
    return found


@dataclass(frozen=True)
class FisherChanges:
    """Estimates a `LossChanges` table by the Taylor series of the loss at the present configuration.

    What a choice adds or leaves out is a set of gates, whose gradients sum to t for an example. The loss of the
    examples is expected to change by the sum of t (of -t, for what is left out), the first order; and for what is left
    out by the sum of t^2 / 2 too, the second order with the empirical Fisher matrix in place of the Hessian. For what
    is added, the first order alone counts, which orders true changes better there (`benchmarks/search_estimates.py`).
    For a depth or width, which nothing can add again, the second order alone counts, by which leaving it out never
    lowers the loss.

    Args:
        super_adapter: Trained super-adapter of separable layers.
        space: Space with the same dimensions.
        examples: Training examples, one forward and one backward pass each for a table.
        remembered: Tables of earlier calls for the same weights.

    References:
        Molchanov et al. 2019, "Importance estimation for neural network pruning", section 3.
    """

    super_adapter: SuperAdapter = field(repr=False)
    space: Space
    examples: Sequence[TokenExample] = field(repr=False)
    remembered: Remembered = field(default_factory=Remembered, repr=False)

    @cached_property
    def gates(self) -> Gates:
        """Gradients at the gates of every dimension at the largest configuration."""
        return gate_gradients(self.super_adapter, self.space.at(self.space.highest), self.examples)

    @property
    def slopes(self) -> NDArray[np.float64]:
        """Changes at the largest configuration by the mean absolute gradient at each gate.

        Shape (n_axes, largest number of choices).

        References:
            Michel et al. 2019, "Are sixteen heads really better than one?", section 4.1.
        """
        highest = self.space.highest
        return self.remembered(self._key("slopes", highest), lambda: _of_slopes(self.space, highest, self.gates))

    def __call__(self, point: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n_axes,) -> (n_axes, largest number of choices); nats of all examples together."""
        return self.remembered(self._key("Taylor", point), lambda: self._computed(point))

    def _key(self, estimate: str, point: NDArray[np.int64]) -> Json:
        choices = [list(axis.choices) for axis in self.space.axes]  # the same indices mean others in another space
        return [estimate, choices, point.tolist(), hash_of(self.examples)]

    def _computed(self, point: NDArray[np.int64]) -> NDArray[np.float64]:
        at_highest = np.array_equal(point, self.space.highest)
        gates = self.gates if at_highest else gate_gradients(self.super_adapter, self.space.at(point), self.examples)
        return _table(self.space, point, gates, _taylor)


def _of_slopes(space: Space, point: NDArray[np.int64], gates: Gates) -> NDArray[np.float64]:
    means = {each: np.abs(own).mean(axis=0, keepdims=True) for each, own in gates.items()}
    return _table(space, point, means, lambda axis, sums, present: _falling(np.abs(sums).sum(axis=0), present))


def _taylor(axis: Axis, sums: NDArray[np.float64], present: int) -> NDArray[np.float64]:
    second = (sums**2).sum(axis=0) / 2
    if axis.kind.cuts:
        return _falling(second, present)
    left_out = np.arange(len(axis.choices)) < present
    found: NDArray[np.float64] = sums.sum(axis=0) + np.where(left_out, second, 0.0)
    return found


def _falling(sizes: NDArray[np.float64], present: int) -> NDArray[np.float64]:
    """Changes of some sizes: positive below the present choice, negative above, and never growing between choices."""
    below, above = np.maximum.accumulate(sizes[present::-1])[::-1], np.maximum.accumulate(sizes[present:])
    return np.array([*below, *-above[1:]])


def _table(space: Space, point: NDArray[np.int64], gates: Gates, changes: Changes) -> NDArray[np.float64]:
    table = np.full((space.n_axes, int(space.n_choices.max())), np.nan)
    for number, axis in enumerate(space.axes):
        if all(gates[each].shape[1] for each in axis.dimensions):
            present = int(point[number])
            table[number, : len(axis.choices)] = changes(axis, gate_sums(axis, gates, present), present)
    return table
