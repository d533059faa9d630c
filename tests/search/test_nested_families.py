"""Nested adapters on two families of models, against plain LoRA in textbook form as forward hooks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen3Config

from adaptare.profiler import ModelShape, named_space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.gradients import accumulate_gradients
from adaptare.search.training.passes import pad_batch
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH, Distillation
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter

Examples = Callable[[int], list[TokenExample]]
Tensors = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
ALPHA = 32.0  # the documented default
SIZES: dict[str, Any] = {
    "vocab_size": 260,
    "hidden_size": 36,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
LLAMA = LlamaConfig(num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True, **SIZES)
QWEN3 = Qwen3Config(num_attention_heads=4, num_key_value_heads=2, head_dim=8, **SIZES)


def fresh(config: PretrainedConfig = QWEN3) -> SuperAdapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()
    return SuperAdapter(model, named_space("sites", ModelShape.from_config(config), ranks=(0, 2, 4)), seed=0)


@pytest.fixture
def trained(request: pytest.FixtureRequest) -> SuperAdapter:
    super_adapter, generator = fresh(getattr(request, "param", QWEN3)), torch.Generator().manual_seed(1)
    for tensor in super_adapter.state().values():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return super_adapter


@contextmanager
def plain_lora(model: torch.nn.Module, tensors: Tensors, ranks: Mapping[str, int]) -> Iterator[None]:
    """Adds alpha / r_max * x A[:r]' B[:, :r]' to the output of each linear with a rank above 0."""

    def add(A: torch.Tensor, B: torch.Tensor, rank: int) -> Any:
        def hook(module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            return output + ALPHA / A.shape[0] * (inputs[0] @ A[:rank].T @ B[:, :rank].T)

        return hook

    handles = [
        model.get_submodule(path).register_forward_hook(add(*tensors[path], rank))
        for path, rank in ranks.items()
        if rank
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def ranks_of(super_adapter: SuperAdapter, codes: NDArray[np.int64]) -> dict[str, int]:
    return {site.path: int(rank) for site, rank in zip(super_adapter.space.sites, codes, strict=True)}


def tensors_of(super_adapter: SuperAdapter) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Copies of A and B that take gradients."""
    state = super_adapter.state()
    return {
        site.path: tuple(state[f"{site.path}.{half}"].clone().requires_grad_() for half in "AB")  # type: ignore[misc]
        for site in super_adapter.space.sites
    }


@pytest.mark.parametrize("trained", [LLAMA, QWEN3], ids=["llama", "qwen3"], indirect=True)
def test_a_sub_adapter_is_a_plain_adapter_of_its_ranks(trained: SuperAdapter, ids: torch.Tensor) -> None:
    tensors, space = tensors_of(trained), trained.space
    for codes in (trained.largest, *space.at(space.spread(6, np.random.default_rng(5)))):
        with trained.activated(codes), torch.no_grad():
            ours = trained.model(ids).logits
        with trained.lifted(), plain_lora(trained.model, tensors, ranks_of(trained, codes)), torch.no_grad():
            theirs = trained.model(ids).logits
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def reference_loss(
    model: Any,
    tensors: Any,
    rows: list[dict[str, int]],
    examples: list[TokenExample],
    *,
    labels: float = 0.0,
    outputs: float = 1.0,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Mean over the configurations; all logits, one example at a time; all but the first learn from the first."""
    total, n_tokens = torch.zeros(()), sum(example.completion_tokens for example in examples)
    for example in examples:
        teacher = None
        for ranks in rows:
            with plain_lora(model, tensors, ranks):
                logits = model(torch.tensor([example.ids])).logits[0]
            logits = logits[example.prompt_tokens - 1 : -1]
            wanted = functional.cross_entropy(
                logits, torch.tensor(example.ids[example.prompt_tokens :]), reduction="sum"
            )
            softened = (logits / temperature).exp() / (logits / temperature).exp().sum(dim=1, keepdim=True)
            if teacher is None:
                total, teacher = total + wanted, softened.detach()
            else:
                divergence = (teacher * (teacher / softened).log()).sum()
                total = total + labels * wanted + outputs * temperature**2 * divergence
    return total / (n_tokens * len(rows))


def test_a_distilled_sandwich_has_the_gradients_of_its_definition(
    trained: SuperAdapter, token_examples: Examples
) -> None:
    examples, (labels, outputs, temperature) = token_examples(5), (0.5, 2.0, 0.9)
    codes, tensors = SANDWICH.codes(trained.space, seed=0, step=0), tensors_of(trained)
    assert len(codes) == 3
    with trained.lifted():
        expected = reference_loss(
            trained.model,
            tensors,
            [ranks_of(trained, row) for row in codes],
            examples,
            labels=labels,
            outputs=outputs,
            temperature=temperature,
        )
    expected.backward()
    n_tokens = sum(example.completion_tokens for example in examples)
    distil = Distillation(labels, outputs, temperature)
    loss = accumulate_gradients(trained, codes, pad_batch(examples), n_tokens=n_tokens, distil=distil)
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    parameters = dict(trained.model.named_parameters())
    scale = max(float(tensor.grad.abs().max()) for halves in tensors.values() for tensor in halves)
    for path, halves in tensors.items():
        for half, reference in zip("AB", halves, strict=True):
            found = parameters[f"{path}.{half}"].grad
            torch.testing.assert_close(found, reference.grad, rtol=1e-4, atol=1e-5 * scale)


def test_a_step_is_one_update_by_the_sum_of_all_gradients(
    trained: SuperAdapter, token_examples: Examples, tmp_path: Path
) -> None:
    examples, before = token_examples(3), tensors_of(trained)
    codes = SANDWICH.codes(trained.space, seed=7, step=0)
    with trained.lifted():
        reference_loss(trained.model, before, [ranks_of(trained, row) for row in codes], examples).backward()
    weights = [tensor for halves in before.values() for tensor in halves]
    torch.nn.utils.clip_grad_norm_(weights, 1.0)  # transformers' default
    torch.optim.AdamW(weights, lr=1e-2, weight_decay=0.0).step()
    settings = TrainingSettings(1, 7, batch_size=3, learning_rate=1e-2)
    train_super_adapter(trained, examples, settings, folder=tmp_path / "run", step=SANDWICH)
    after = trained.state()
    # The first update of Adam is lr g / (|g| + eps), which magnifies what a tiny gradient is off by.
    off, sharp = 1e-5 * max(float(weight.grad.abs().max()) for weight in weights), []
    for path, halves in before.items():
        for half, expected in zip("AB", halves, strict=True):
            allowed = (2e-5 + 1e-2 * 1e-8 * off / (expected.grad.abs() + 1e-8) ** 2) * (expected.grad != 0)
            assert ((after[f"{path}.{half}"] - expected.detach()).abs() <= allowed).all()
            sharp.append((allowed < 1e-4).flatten())
    assert torch.cat(sharp).float().mean() > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"activation_checkpointing": True}, {"batch_size": 2, "micro_batches": 2}], ids=str)
def test_checkpointing_and_accumulation_do_not_change_the_result(
    token_examples: Examples, tmp_path: Path, change: dict[str, Any]
) -> None:
    states = []
    for number, options in enumerate(({"batch_size": 4}, {"batch_size": 4, **change})):
        super_adapter = fresh()
        settings = TrainingSettings(2, 0, learning_rate=1e-3, **options)
        train_super_adapter(super_adapter, token_examples(8), settings, folder=tmp_path / str(number), step=SANDWICH)
        states.append(super_adapter.state())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in super_adapter.model.modules())
    for name, expected in states[0].items():
        torch.testing.assert_close(states[1][name], expected, rtol=0, atol=2e-5)
