"""Recipes `sqft-sparse` and `sqft`: adapters apart from a sparse base, which `sqft` also rounds to 4 bits.

    y = W x + alpha / r_max * B[:, :r] A[:r] x,  W with half of each row zero, by Wanda

Ranks are elastic on {q, k, v}, one per decoder layer; on {up, down} they are the largest.
"""

from collections.abc import Sequence
from dataclasses import replace

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search.recipes.recipe import Recipe
from adaptare.search.recipes.sparse import DOWN, QKV, UP, prune_half
from adaptare.search.super_adapter.scaling import Scaling
from adaptare.search.training.samplers import UniformSampler
from adaptare.search.training.step import TrainingStep


def space(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """One rank per decoder layer, of the attention's inputs; the MLP has the largest."""
    groups = [{"sites": QKV, "ranks": list(ranks)}, {"sites": [*UP, *DOWN], "ranks": [max(ranks)]}]
    return grouped_space("sqft", groups, shape)


SPARSE = Recipe(
    name="sqft-sparse",
    summary="ranks 16 to 32 on a base with half of its weights zero; never merged",
    paper="Munoz et al. 2024, 'SQFT', sparse base with adapters apart from it",
    needs="training examples, some of them for calibration",
    gives="a sparse base, and an adapter apart from it",
    space=space,
    ranks=(16, 20, 24, 28, 32),
    prepare=prune_half,
    scaling=Scaling("constant", alpha=64.0),
    step=TrainingStep(UniformSampler()),
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
