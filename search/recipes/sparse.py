"""Parts of the recipes on sparse bases: groups of linears with one rank per decoder layer, and pruning by half."""

from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel

from adaptare.devices import InputError
from adaptare.profiler import ModelShape, Space
from adaptare.profiler.workloads.space import rank_space
from adaptare.search.pruning.wanda import prune_by_wanda
from adaptare.search.training.token_examples import TokenExample

# Kinds of linears of a group: those of families with separate linears, and with fused ones.
QKV, UP, DOWN = ("q_proj", "k_proj", "v_proj", "qkv_proj"), ("up_proj", "gate_up_proj"), ("down_proj",)


def grouped_space(name: str, shape: ModelShape, groups: Mapping[tuple[str, ...], Sequence[int]]) -> Space:
    """A space with one rank per group and decoder layer.

    Args:
        name: Name of the space.
        shape: Base model.
        groups: Kinds of linears -> their ranks. Kinds that the family lacks are skipped.

    Raises:
        InputError: A rank is larger than a linear.
    """
    sites = [site for site in shape.sites if any(site.kind in kinds for kinds in groups)]
    members: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for index, site in enumerate(sites):
        kinds = next(kinds for kinds in groups if site.kind in kinds)
        members.setdefault((site.layer, kinds), []).append(index)
        if max(groups[kinds]) > site.largest_rank:
            raise InputError(
                f"rank {max(groups[kinds])} is larger than {site.path}, which takes up to {site.largest_rank}; give "
                "smaller ones with --rank"
            )
    return rank_space(name, sites, list(members.values()), [sorted(set(groups[kinds])) for _, kinds in members])


def prune_half(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> None:
    """Sets half of the weights of every row of the decoder's linears to zero, by Wanda."""
    prune_by_wanda(model, calibration, sparsity=0.5)
