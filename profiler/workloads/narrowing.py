"""Parts of the weights that layers narrower than the base's keep."""

from collections.abc import Mapping
from dataclasses import dataclass

from adaptare.profiler.workloads.shape import ModelShape


@dataclass(frozen=True)
class Part:
    """The part of a linear that a narrower MLP keeps: its first neurons.

    Args:
        outputs: Rows of the weight, shape (out, in); those of gate, then of up where both are fused.
        inputs: Columns of the weight.
    """

    outputs: slice | list[int]
    inputs: slice


WHOLE = Part(slice(None), slice(None))


def kept_parts(shape: ModelShape, widths: Mapping[int, int]) -> dict[str, Part]:
    """Module path -> part, for the linears that the given widths make smaller.

    Args:
        shape: Shape of the base.
        widths: Layer -> intermediate size.
    """
    parts = {}
    for usual, site in zip(shape.sites, shape.sites_with(widths), strict=True):
        if site != usual:
            width, times = widths[site.layer], usual.out_features // shape.intermediate
            fused = [half * shape.intermediate + neuron for half in range(times) for neuron in range(width)]
            outputs = fused if site.out_features < usual.out_features and times > 1 else slice(site.out_features)
            parts[site.path] = Part(outputs, slice(site.in_features))
    return parts
