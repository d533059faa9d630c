"""Importance order of MLP neurons: the most important first, so that a narrower MLP keeps these."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import ModelShape
from adaptare.search.training.token_examples import TokenExample, pad_batch

# Fewer tokens do not reach most neurons often enough for a mean.
FEWEST_TOKENS = 256
BATCH = 8
Scores = Mapping[int, torch.Tensor]


def activation_scores(model: PreTrainedModel, calibration: Sequence[TokenExample]) -> Scores:
    """Mean absolute contribution of each neuron on calibration tokens: layer -> scores, shape (intermediate,).

    The contribution to the residual stream is |act(gate) * up|, averaged over all tokens, times the norm of the
    neuron's column in the down projection.

    Args:
        model: A causal language model without adapters.
        calibration: Examples, of which prompt and completion count.

    Raises:
        InputError: The examples have fewer than `FEWEST_TOKENS` tokens.

    References:
        Muralidharan et al. 2024, "Compact language models via pruning and knowledge distillation", section 2.2
        (neurons by activations); Sun et al. 2023, "Wanda", equation 1 (times the norm of the weights).
    """
    down = _down(model)
    totals = {layer: torch.zeros(linear.in_features, dtype=torch.float64) for layer, linear in down.items()}
    tokens = 0
    for ids, mask in calibration_batches(model, calibration):
        tokens += int(mask.sum())
        with _seen(down, totals, mask.bool()), torch.inference_mode():
            model(input_ids=ids, attention_mask=mask, logits_to_keep=1)
    norms = {layer: linear.weight.detach().double().norm(dim=0).cpu() for layer, linear in down.items()}
    return {layer: total / tokens * norms[layer] for layer, total in totals.items()}


def calibration_batches(
    model: PreTrainedModel, calibration: Sequence[TokenExample]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and attention mask of each batch, on the device of a model. Shapes (n, longest).

    Raises:
        InputError: The examples have fewer than `FEWEST_TOKENS` tokens.
    """
    tokens = sum(len(example.ids) for example in calibration)
    if tokens < FEWEST_TOKENS:
        raise InputError(
            f"an importance order needs at least {FEWEST_TOKENS} tokens of calibration examples, {tokens} came; give "
            "more examples, or longer ones"
        )
    ordered = sorted(calibration, key=lambda example: len(example.ids))  # saves padding
    for start in range(0, len(ordered), BATCH):
        batch = pad_batch(ordered[start:][:BATCH], model.device)
        yield batch["input_ids"], batch["attention_mask"]


def magnitude_scores(model: PreTrainedModel) -> Scores:
    """Product of the norms of a neuron's weights, without any data: layer -> scores, shape (intermediate,)."""
    size = int(model.config.intermediate_size)
    scores = {}
    for layer, linear in _down(model).items():
        score = linear.weight.detach().double().norm(dim=0)
        for into in _into(model, layer):
            # Gate and up, in one linear or two.
            halves = into.weight.detach().double().reshape(-1, size, into.in_features)
            score = score * halves.norm(dim=2).prod(dim=0)
        scores[layer] = score.cpu()
    return scores


def order_neurons(model: PreTrainedModel, scores: Scores) -> None:
    """Permutes the neurons of each MLP, in place, to descending scores; the model's function does not change.

    Args:
        model: A causal language model without adapters.
        scores: Layer -> scores, shape (intermediate,), equal ones in their present order.
    """
    size = int(model.config.intermediate_size)
    for layer, down in _down(model).items():
        order = torch.argsort(scores[layer], descending=True, stable=True).to(down.weight.device)
        down.weight.data = down.weight.data[:, order].contiguous()
        for into in _into(model, layer):
            rows = torch.cat([half * size + order for half in range(into.out_features // size)])
            into.weight.data = into.weight.data[rows].contiguous()
            if into.bias is not None:
                into.bias.data = into.bias.data[rows]


def _down(model: PreTrainedModel) -> dict[int, nn.Linear]:
    sites = [site for site in ModelShape.from_config(model.config).sites if site.kind == "down_proj"]
    return {site.layer: _linear(model, site.path) for site in sites}


def _into(model: PreTrainedModel, layer: int) -> list[nn.Linear]:
    """Gate and up of a layer, or both as one."""
    sites = ModelShape.from_config(model.config).sites
    paths = [site.path for site in sites if site.layer == layer and ".mlp." in site.path and site.kind != "down_proj"]
    return [_linear(model, path) for path in paths]


def _linear(model: PreTrainedModel, path: str) -> nn.Linear:
    module = model.get_submodule(path)
    if not isinstance(module, nn.Linear):
        raise InputError(
            f"{path} is a {type(module).__name__}; neurons are ordered in plain linears; pass the model without "
            "adapters"
        )
    return module


@contextmanager
def _seen(down: Mapping[int, nn.Linear], totals: Mapping[int, torch.Tensor], mask: torch.Tensor) -> Iterator[None]:
    """Adds the absolute inputs of the down projections, shape (batch, tokens, intermediate), where the mask is true."""

    def add(total: torch.Tensor, module: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        total.add_(inputs[0][mask].abs().double().sum(dim=0).cpu())

    with ExitStack() as hooks:
        for layer, linear in down.items():
            hooks.enter_context(linear.register_forward_pre_hook(partial(add, totals[layer])))
        yield
