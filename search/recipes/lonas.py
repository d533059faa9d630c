"""Recipe `lonas`: ranks and MLP widths together; the frozen weights shrink, and the adapters follow their slices."""

from collections.abc import Sequence

from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads import grouped_space
from adaptare.search.recipes.recipe import Recipe
from adaptare.search.training.step import TrainingStep, UniformSampler

QUERY_KEY_VALUE = ["*.q*_proj", "*.k_proj", "*.v_proj"]
GATE_UP = ["*.gate*_proj", "*.up_proj"]


def eighths(shape: ModelShape) -> list[int]:
    """Half of the intermediate size to all of it, in steps of an eighth."""
    return sorted({shape.intermediate * parts // 8 for parts in range(4, 9)} - {0})


def space(shape: ModelShape, /, *, ranks: Sequence[int]) -> Space:
    """In each layer a rank of query, key and value, one of gate and up, and an MLP width; down has the largest rank."""
    groups = [
        {"sites": QUERY_KEY_VALUE, "ranks": list(ranks)},
        {"sites": GATE_UP, "ranks": list(ranks)},
        {"sites": "*.down_proj", "ranks": [max(ranks)], "tie": "all"},
        {"widths": eighths(shape)},
    ]
    return grouped_space("lonas", groups, shape)


RECIPE = Recipe(
    name="lonas",
    summary="rank and MLP width of every layer; the model becomes faster than its base",
    paper="Munoz et al. 2024, 'LoNAS', section 3; widths keep the first neurons, in the base's own order",
    needs="training examples; a predictor fitted to widths (profile the space lonas, merged or requantised)",
    gives="a smaller dense model: for transformers at one width, for ONNX Runtime at any; the adapter merges",
    space=space,
    ranks=(28, 32),
    alpha=64.0,
    step=TrainingStep(UniformSampler()),
    algorithm="nsga2",
)
