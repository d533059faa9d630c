"""Parts of the recipes on sparse bases: groups of linears with one rank per decoder layer, and pruning by half."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from adaptare.search.pruning.wanda import prune_by_wanda
from adaptare.search.training.token_examples import TokenExample

# Paths of the linears of a group, in families with separate linears and with fused ones.
QKV, UP, DOWN = ["*.q_proj", "*.k_proj", "*.v_proj", "*.qkv_proj"], ["*.up_proj", "*.gate_up_proj"], ["*.down_proj"]


def prune_half(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> None:
    """Sets half of the weights of every row of the decoder's linears to zero, by Wanda."""
    prune_by_wanda(model, calibration, sparsity=0.5)
