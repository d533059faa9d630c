"""Recipes of SQFT: a sparse base (half of each row zero, by Wanda), in floating point or in 4 bits.

    sqft-sparse, sqft     y = W x + U x,  apart;     U = alpha / r_max * B[:, :r] A[:r]
    sqft-sparsepeft       y = (W + M * U) x,  merged without loss;     M = (W != 0)
    sqft-qa-sparsepeft    y = Q(W + M * U) x,  Q(V) = scale * (clamp(round(V / scale) + zero, 0, 15) - zero), as of W

Ranks are elastic on {q, k, v}, one per decoder layer; on {up, down} they are the largest.
"""

from collections.abc import Sequence
from dataclasses import replace

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads import grouped_space
from adaptare.search.recipes.shears import DOWN, QKV, RECIPE, UP
from adaptare.search.super_adapter.quantised import MaskedElasticLinear, QuantisedElasticLinear


def space(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """One rank per decoder layer, of the attention's inputs; the MLP has the largest."""
    groups = [{"sites": QKV, "ranks": list(ranks)}, {"sites": [*UP, *DOWN], "ranks": [max(ranks)]}]
    return grouped_space("sqft", groups, shape)


SPARSE = replace(
    RECIPE,
    name="sqft-sparse",
    paper="Munoz et al. 2024, 'SQFT', sparse base with adapters apart from it",
    gives="a sparse base, and an adapter apart from it",
    space=space,
    ranks=(16, 20, 24, 28, 32),
    algorithm="nsga2",
    quantisations=("none",),
)
INT4 = replace(
    SPARSE,
    name="sqft",
    summary="ranks 16 to 32 on a base of 4 bits with half of its weights zero; never merged",
    paper="Munoz et al. 2024, 'SQFT', sparse and quantised base with adapters apart from it",
    gives="a sparse base of 4 bits, and an adapter in floating point apart from it",
    quantisations=("int4",),
)
MASKED = replace(
    SPARSE,
    name="sqft-sparsepeft",
    summary="updates of the non-zero weights of a sparse base, merged into it",
    paper="Munoz et al. 2024, 'SQFT', SparsePEFT: sparse fine-tuning of W + M * B A",
    gives="one model, as sparse as its base and as fast",
    layer=MaskedElasticLinear,
)
QUANTISED = replace(
    MASKED,
    name="sqft-qa-sparsepeft",
    summary="updates of the non-zero weights of a sparse base, merged into its 4-bit codes",
    paper="Munoz et al. 2024, 'SQFT', QA-SparsePEFT: quantisation-aware SparsePEFT with shared scales and zero points",
    gives="one model of 4 bits, as sparse as its base and as fast",
    layer=QuantisedElasticLinear,
    quantisations=("int4",),
)
