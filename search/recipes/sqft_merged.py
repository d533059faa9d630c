"""Recipes `sqft-sparsepeft` and `sqft-qa-sparsepeft`: updates of a sparse base that are merged without loss.

    sqft-sparsepeft       y = (W + M * U) x,   M = (W != 0),  U = alpha / r_max * B[:, :r] A[:r]
    sqft-qa-sparsepeft    y = Q(W + M * U) x,  Q(V) = scale * (clamp(round(V / scale) + zero, 0, 15) - zero)

Scales are those of W. Space, pruning and steps are those of `sqft`.
"""

from dataclasses import replace

from adaptare.search.recipes.sqft import SPARSE
from adaptare.search.super_adapter.masked import MaskedElasticLinear
from adaptare.search.super_adapter.quantised import QuantisedElasticLinear

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
