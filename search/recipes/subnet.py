"""Recipe `subnet`: sub-networks of a model whose neurons are sorted by importance, recovered by adapters alone."""

from collections.abc import Sequence
from dataclasses import replace

from transformers import PreTrainedModel

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads import grouped_space
from adaptare.search.recipes.lonas import eighths
from adaptare.search.recipes.recipe import Recipe
from adaptare.search.training.importance_orders import activation_scores, layer_order, order_neurons
from adaptare.search.training.step import SANDWICH, Distillation
from adaptare.search.training.token_examples import TokenExample


def space(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """The largest rank on every linear, and an MLP width for each layer; uniform widths are among these."""
    groups = [{"sites": "*", "ranks": [max(ranks)], "tie": "all"}, {"widths": eighths(shape)}]
    return grouped_space("subnet", groups, shape)


def space_with_depth(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """The space of `subnet`, with six, seven or eight eighths of the layers."""
    depths = sorted({shape.layers * parts // 8 for parts in (6, 7, 8)} - {0})
    groups = [{"sites": "*", "ranks": [max(ranks)], "tie": "all"}, {"widths": eighths(shape)}, {"depth": depths}]
    return grouped_space("subnet-depth", groups, shape)


def sort_neurons(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> None:
    """Sorts the neurons of each MLP by their contribution on the calibration examples; outputs do not change."""
    order_neurons(model, activation_scores(model, calibration))


RECIPE = Recipe(
    name="subnet",
    summary="MLP widths by importance order; full and random sub-networks with distillation; the model becomes faster",
    paper="Sukthanker et al. 2024, 'LLM compression with neural architecture search', arXiv 2410.06479: importance "
    "order, and LoRA-only training of sub-networks with distillation from the full one; here per layer as well",
    needs="training examples, some of them for calibration; a predictor fitted to widths (profile the space subnet)",
    gives="a smaller dense model: for transformers at one width, for ONNX Runtime at any; the adapter merges",
    space=space,
    ranks=(32,),
    prepare=sort_neurons,
    layer_order=layer_order,
    # Weights and temperature are the defaults of the paper's code.
    step=replace(SANDWICH, distil=Distillation(labels=0.5, outputs=2.0, temperature=0.9)),
)
