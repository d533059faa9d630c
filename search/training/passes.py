"""Passes of examples through a model: batches, logits of completions, evaluation mode, and inputs of its modules."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from adaptare.core import InputError
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.cached_prefix import CachedPrefix
from adaptare.search.training.token_examples import TokenExample

IGNORED = -100  # label that transformers excludes from the loss
BATCH = 16
# The norm of a channel over n tokens has a relative standard error of about sqrt(1 / 2n): 4 % here.
FEWEST_TOKENS = 256
Batch = Mapping[str, torch.Tensor]
Name = TypeVar("Name", bound=Hashable)


def pad_batch(examples: Sequence[TokenExample], device: torch.device | str | None = None) -> Batch:
    """`input_ids`, `attention_mask` and `labels` on a device, each of shape (n, longest), padded at the end."""
    longest = max(len(example.ids) for example in examples)
    shape = (len(examples), longest)
    # The padding value has no effect: no earlier position attends to it, and the loss ignores it.
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.ids)
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, example.prompt_tokens : len(tokens)] = tokens[example.prompt_tokens :]
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()} if device else batch


def completion_logits(
    model: PreTrainedModel, batch: Batch, *, prefix: CachedPrefix | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the completion tokens, and the tokens. Shapes (tokens, vocabulary), float32, and (tokens,).

    The output layer runs only at positions that predict a completion token of some example.

    Args:
        model: Causal language model.
        batch: See `pad_batch`.
        prefix: Tokens that all prompts begin with, computed before; shorter than every prompt.
    """
    labels = batch["labels"][:, 1:]  # the token at position t is predicted at t - 1
    wanted = labels != IGNORED
    positions = wanted.any(dim=0).nonzero().squeeze(1)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if prefix is None:
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=positions).logits
    else:
        logits = prefix.logits(ids[:, :-1], mask[:, :-1], positions)  # the last token predicts nothing
    return logits[wanted[:, positions]].float(), labels[wanted]


def check_calibration(examples: Sequence[TokenExample], use: str) -> None:
    """Raises `InputError` if calibration examples have too few tokens for means over them."""
    tokens = sum(len(example.ids) for example in examples)
    if tokens < FEWEST_TOKENS:
        raise InputError(
            f"{use} needs at least {FEWEST_TOKENS} tokens of calibration examples, and {len(examples)} examples have "
            f"{tokens}; pass more examples, or longer ones"
        )


@contextmanager
def evaluated(model: PreTrainedModel, *, gradients: bool = False) -> Iterator[None]:
    """Model in evaluation mode, without gradients unless they are asked for; its mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.enable_grad() if gradients else torch.inference_mode():
            yield
    finally:
        model.train(training)


@contextmanager
def frozen_weights_in_bfloat16(model: nn.Module, *, enabled: bool = True) -> Iterator[None]:
    """Casts frozen weights of linears once, where autocast casts them in every pass; results are the same to the bit.

    Linears that compute their update in float32, at full size, keep their weights. So does an embedding that shares its
    weights with the head. The weights are restored afterwards; meanwhile they take half as much memory again.

    Args:
        model: A model whose passes run under autocast to bfloat16 within.
        enabled: False to change nothing.
    """
    exact = {id(each.base) for each in model.modules() if isinstance(each, ElasticLinear) and not each.separable}
    linears = [each for each in model.modules() if isinstance(each, nn.Linear) and id(each) not in exact]
    originals = [(each, each.weight) for each in linears if enabled and not each.weight.requires_grad]
    try:
        for linear, weight in originals:
            linear.weight = nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False)
        yield
    finally:
        for linear, weight in originals:
            weight.data = weight.data.to(linear.weight.device)  # the model may have been moved
            linear.weight = weight


@contextmanager
def evaluated_at(
    super_adapter: SuperAdapter, codes: NDArray[np.int64], *, gradients: bool = False
) -> Iterator[PreTrainedModel]:
    """Model in evaluation mode with a configuration active; both are restored afterwards.

    It computes in bfloat16 where autocast does if `super_adapter.bf16` is true.

    Raises:
        InputError: A weight of the adapters is not finite, which attention kernels may hide from the outputs.
    """
    for name, tensor in super_adapter.state().items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} has weights that are not finite; train again with a lower learning rate")
    model, bf16 = super_adapter.model, super_adapter.bf16
    with (
        frozen_weights_in_bfloat16(model, enabled=bf16),
        evaluated(model, gradients=gradients),
        torch.autocast(model.device.type, torch.bfloat16) if bf16 else nullcontext(),
        super_adapter.activated(codes),
    ):
        yield model


def watch(
    model: PreTrainedModel,
    modules: Mapping[Name, nn.Module],
    examples: Sequence[TokenExample],
    see: Callable[[Name, torch.Tensor, torch.Tensor], None],
) -> int:
    """Runs examples through a model, and calls back with the input and output of some modules.

    Args:
        model: Causal language model, as it is active.
        modules: Name -> module of the model.
        examples: Examples, of which prompt and completion count.
        see: Called for each batch with the name of a module, its input and its output, without padding. Shapes
            (tokens, features).

    Returns:
        Number of tokens.
    """
    ordered = sorted(examples, key=lambda example: len(example.ids))  # saves padding
    real = torch.empty(0)

    def show(name: Name, before: torch.Tensor, after: torch.Tensor) -> None:
        see(name, before[real], after[real])

    with evaluated(model), seen(modules, show):
        for start in range(0, len(ordered), BATCH):
            batch = pad_batch(ordered[start : start + BATCH], model.device)
            real = batch["attention_mask"].bool()
            model(batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False, logits_to_keep=1)
    return sum(len(example.ids) for example in examples)


@contextmanager
def seen(modules: Mapping[Name, nn.Module], see: Callable[[Name, torch.Tensor, torch.Tensor], None]) -> Iterator[None]:
    """Calls back with the name, input and output of each module in every pass within."""

    def hook(name: Name, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        see(name, inputs[0], output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(partial(hook, name)))
        yield


def activation_grams(super_adapter: SuperAdapter, examples: Sequence[TokenExample]) -> dict[str, torch.Tensor]:
    """Second moments E[(A x) (A x)^T] over the inputs x of every site, with the whole adapter active.

    Args:
        super_adapter: Its active configuration is restored.
        examples: Calibration examples; prompts count as completions do.

    Returns:
        Module path -> shape (rank, rank), 64 bits.
    """
    weights = {path: linear.A.detach() for path, linear in super_adapter.linears.items() if linear.largest}
    grams = {path: torch.zeros(len(A), len(A), dtype=torch.float64, device=A.device) for path, A in weights.items()}

    def add(path: str, x: torch.Tensor, _: torch.Tensor) -> None:
        inside = (x.to(weights[path].dtype) @ weights[path].T).double()
        grams[path] += inside.T @ inside

    with evaluated_at(super_adapter, super_adapter.largest) as model:
        n_tokens = watch(model, {path: super_adapter.linears[path] for path in weights}, examples, add)
    return {path: gram / n_tokens for path, gram in grams.items()}
