"""Re-basis of an adapter: rows of A and columns of B ordered so that every slice is the best adapter of its rank."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.profiler import Space
from adaptare.profiler.programs import tensors_of
from adaptare.profiler.workloads import rank_space
from adaptare.search.super_adapter.model import SuperAdapter

# Module path -> A C A^T, shape (rank, rank), where C holds the second moments E[x x^T] of the linear's inputs.
Grams = Mapping[str, torch.Tensor]


def ladder_space(super_adapter: SuperAdapter) -> Space:
    """Sites of a super-adapter, each with ranks 0, 1, 2, 3, 4, 6, 8, 12, … and its largest."""
    space, largest = super_adapter.space, super_adapter.largest.tolist()
    steps = {0, *(step << power for step in (1, 3) for power in range(max(largest).bit_length()))}
    choices = [sorted({each for each in steps if each < rank} | {rank}) for rank in largest]
    return rank_space(space.name, space.shape, [[site.path] for site in space.sites], choices)


def on_space(super_adapter: SuperAdapter, space: Space) -> SuperAdapter:
    """Moves the first rows of A and columns of B to a super-adapter of another space, on the same model.

    Args:
        super_adapter: Source of the weights; it is removed from its model.
        space: Some of its sites, with largest ranks that are no larger.
    """
    super_adapter.remove()
    moved = SuperAdapter(super_adapter.model, space, alpha=super_adapter.alpha, seed=0)
    moved.bf16 = super_adapter.bf16
    moved.put(super_adapter.halves(space.decode(moved.largest)))
    return moved


def weight_grams(super_adapter: SuperAdapter) -> Grams:
    """A A^T of each site: inputs whose entries are independent and of variance 1."""
    return {path: A @ A.T for path, (A, _, _) in _whole(super_adapter).items()}


def rebase(super_adapter: SuperAdapter, grams: Grams) -> Grams:
    """Changes the basis of each site's adapter in place; B A is unchanged, and its first k rows are its best rank k.

    With B = Q R and the eigenvectors U of R (A C A^T) R^T, B becomes Q U and A becomes U^T R A. The columns of Q U are
    the left singular vectors of B A C^(1/2), found without a matrix of the size of the linear, so no other adapter of
    rank k has a smaller mean square of (B A - B[:, :k] A[:k]) x over the inputs x. Then each row of A and its column of
    B are scaled to the same length.

    Args:
        super_adapter: Its adapters are changed.
        grams: A C A^T of the present A, of each site.

    Returns:
        A C A^T of the new A.

    References:
        Eckart & Young 1936, "The approximation of one matrix by another of lower rank"; Wang et al. 2024, "SVD-LLM",
        section 3, for a truncation with respect to the inputs.
    """
    state = super_adapter.state()
    rebased: dict[str, torch.Tensor] = {}
    for path, (A, B, _) in _whole(super_adapter).items():
        Q, R = torch.linalg.qr(B)
        _, U = torch.linalg.eigh(R @ grams[path] @ R.T)
        turn = U.flip(1).T @ R  # eigenvalues are ascending
        # B has columns of length 1, so the length of a row of A is all there is to divide.
        lengths = (turn @ A).norm(dim=1).sqrt()
        inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
        turn = inverse[:, None] * turn
        state[f"{path}.A"].copy_(turn @ A)
        state[f"{path}.B"].copy_(Q @ U.flip(1) * lengths)
        rebased[path] = turn @ grams[path] @ turn.T
    return rebased


def energy_lost(super_adapter: SuperAdapter, grams: Grams) -> NDArray[np.float64]:
    """Mean squared error of each site's output at each rank, as a share of the mean square with the whole adapter.

    Args:
        super_adapter: Adapters in any basis.
        grams: A C A^T of each site.

    Returns:
        Shape (n_columns, largest rank + 1); 0 from a site's own largest rank on.
    """
    space, largest = super_adapter.space, super_adapter.largest
    lost = np.zeros((len(largest), int(largest.max()) + 1))
    halves = _whole(super_adapter)
    for column, site in enumerate(space.sites):
        _, B, scale = halves[site.path]
        products = (scale**2 * (B.T @ B) * grams[site.path]).cpu().numpy()
        lost[column, : len(products)] = [products[rank:, rank:].sum() for rank in range(len(products))]
    shares: NDArray[np.float64] = np.maximum(lost, 0.0) / (lost[:, 0].sum() or 1.0)
    return shares


def _whole(super_adapter: SuperAdapter) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """Module path -> all of A and B, in 64 bits, and their scale."""
    halves = super_adapter.halves(super_adapter.space.decode(super_adapter.largest))
    like = torch.empty(0, dtype=torch.float64, device=super_adapter.model.device)
    return {path: (*tensors_of(own, like), own.scale) for path, own in halves.items()}
