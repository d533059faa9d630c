"""A space of another package: ranks for the attention of each layer, and a width for its MLP."""

from adaptare.profiler import Dimension, Site, Space


def slim(shape, *, ranks=(0, 4, 16)):
    """In each layer one rank of all attention linears, and an MLP of half, three quarters or all of its size."""
    columns = (*(site for site in shape.sites if "self_attn" in site.path), *shape.mlp_widths)
    widths = tuple(shape.intermediate * quarters // 4 for quarters in (2, 3, 4))
    dimensions = []
    for layer in range(shape.layers):
        own = [number for number, column in enumerate(columns) if column.layer == layer]
        attention = tuple(number for number in own if isinstance(columns[number], Site))
        mlp = tuple(number for number in own if number not in attention)
        dimensions.append(Dimension(f"rank of layer {layer}", tuple(ranks), attention))
        dimensions.append(Dimension(f"width of layer {layer}", widths, mlp))
    return Space("slim", columns, tuple(dimensions))
