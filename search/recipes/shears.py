"""Recipe `shears`: elastic ranks on a base that is pruned by half; the adapter stays apart from it.

    W S = W with the int(n / 2) entries of lowest |W_ij| * norm(X_j) in each row i set to zero      (Wanda)
    y = W S x + alpha / r_max * B[:, :r] A[:r] x,  r in {16, 24, 32} per layer for {q, k, v}, {up} and {down}   (NLS)

One configuration per step is drawn uniformly; the middle rank is taken without a search, hill climbing goes on from it.
"""

from collections.abc import Sequence

from transformers import PreTrainedModel

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads import grouped_space
from adaptare.search.recipes.recipe import Recipe
from adaptare.search.training.pruning import prune_by_wanda
from adaptare.search.training.step import TrainingStep, UniformSampler
from adaptare.search.training.token_examples import TokenExample

# Paths of the linears of a group, in families with separate linears and with fused ones.
QKV, UP, DOWN = ["*.q_proj", "*.k_proj", "*.v_proj", "*.qkv_proj"], ["*.up_proj", "*.gate_up_proj"], ["*.down_proj"]


def space(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """Three ranks per decoder layer: of the attention's inputs, of the MLP's input and of its output."""
    return grouped_space("shears", [{"sites": sites, "ranks": list(ranks)} for sites in (QKV, UP, DOWN)], shape)


def space_with_gate(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """The space of `shears`, with the gate projection in the group of the up projection: a variant of its code."""
    groups = (QKV, [*UP, "*.gate_proj"], DOWN)
    return grouped_space("shears-gate", [{"sites": sites, "ranks": list(ranks)} for sites in groups], shape)


def prune(model: PreTrainedModel, calibration: Sequence[TokenExample], *, sparsity: float = 0.5) -> None:
    """Sets a share of the weights of every row of the decoder's linears to zero, by Wanda."""
    prune_by_wanda(model, calibration, sparsity=sparsity)


RECIPE = Recipe(
    name="shears",
    summary="ranks 16 to 32 on a base with half of its weights zero; never merged",
    paper="Munoz et al. 2024, 'Shears', unstructured sparsity and neural low-rank adapter search; Sun et al. 2024, "
    "'A simple and effective pruning approach for large language models', equation 1",
    needs="training examples, some of them for calibration",
    gives="a sparse base, and an adapter of mixed ranks apart from it",
    space=space,
    ranks=(16, 24, 32),
    prepare=prune,
    sparsity=0.5,
    alpha=64.0,
    step=TrainingStep(UniformSampler()),
    algorithm="hill-climbing",
)
