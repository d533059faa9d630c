"""A dimension of another package: groups of key and value heads that stay in the attention of a layer."""

from adaptare.profiler import RANK, Axis, Kind, Part, Space


def first_groups(shape, layer, groups):
    """Parts of the linears of one layer: the first groups of key and value heads, with the queries that use them."""
    keys = ((0, groups * shape.head_dim),)
    queries = ((0, queries_of(shape, groups) * shape.head_dim),)
    parts = {
        "q_proj": Part(rows=queries),
        "k_proj": Part(rows=keys),
        "v_proj": Part(rows=keys),
        "o_proj": Part(columns=queries),
    }
    return {f"model.layers.{layer}.self_attn.{name}": part for name, part in parts.items()}


def queries_of(shape, groups):
    """Query heads that use some groups of key and value heads."""
    return groups * shape.heads // shape.kv_heads


def fields(shape, groups):
    """Fields of the transformers config of a model with so many groups in every layer."""
    heads = {"num_attention_heads": queries_of(shape, groups), "num_key_value_heads": groups}
    return {**heads, "head_dim": shape.head_dim}


HEADS = Kind(
    name="number of KV groups",
    key="kv_groups",
    base=lambda shape: shape.kv_heads,
    tensors=first_groups,
    label="attention",
    config=fields,
)


def space(shape, *, ranks):
    """One rank for each layer, and one number of groups for all."""
    of_layer = [[site.path for site in shape.sites if site.layer == layer] for layer in range(shape.layers)]
    axes = [Axis(f"rank of layer {n}", ranks, map(RANK, paths)) for n, paths in enumerate(of_layer)]
    groups = Axis("KV groups", range(1, shape.kv_heads + 1), HEADS.all(shape))
    return Space("KV groups", shape, (*axes, groups))
