"""A recipe of another package: adapters on query and value, over a base without its small MLP weights."""

from adaptare.profiler import RANK, Axis, Space
from adaptare.search.recipes import Recipe, SpreadSampler, TrainingStep


def query_and_value(shape, *, ranks):
    """A rank for each query and value projection."""
    paths = [site.path for site in shape.sites if site.kind in ("q_proj", "v_proj")]
    return Space("query and value", shape, [Axis(f"rank of {path}", ranks, [RANK(path)]) for path in paths])


def trim(model, calibration):
    """Sets the weights of every MLP that are below half of their mean magnitude to zero."""
    for layer in model.model.layers:
        weight = layer.mlp.up_proj.weight.data
        weight[weight.abs() < weight.abs().mean() / 2] = 0


TRIMMED = Recipe(
    name="trimmed",
    summary="adapters on query and value of a trimmed base",
    paper="none",
    needs="training examples",
    gives="an adapter on a base with zeros",
    space=query_and_value,
    ranks=(0, 2, 8),
    prepare=trim,
    step=TrainingStep(SpreadSampler()),
    start=lambda space: space.highest,
    algorithm="random",
)
