"""A space of another package: ranks for the attention of each layer, and a width for its MLP."""

from adaptare.profiler import RANK, WIDTH, Axis, Space


def slim(shape, *, ranks=(0, 4, 16)):
    """In each layer one rank of all attention linears, and an MLP of half, three quarters or all of its size."""
    widths = tuple(shape.intermediate * quarters // 4 for quarters in (2, 3, 4))
    axes = []
    for layer in range(shape.layers):
        attention = [RANK(site.path) for site in shape.sites if site.layer == layer and "self_attn" in site.path]
        axes.append(Axis(f"rank of layer {layer}", ranks, attention))
        axes.append(Axis(f"width of layer {layer}", widths, [WIDTH(layer)]))
    return Space("slim", shape, axes)
