"""Nested adapters on two families of models, against plain LoRA."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plain_lora import families, plain_lora
from torch.nn import functional

from adaptare.profiler import Configuration, ModelShape, Space, named_space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.training.gradients import accumulate_gradients
from adaptare.search.training.passes import completion_logits, pad_batch
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.step import SANDWICH, Distillation, SpreadSampler, TrainingStep
from adaptare.search.training.token_examples import TokenExample
from adaptare.search.training.train import train_super_adapter

Examples = Callable[[int], list[TokenExample]]
FAMILIES = ("llama-9-3", "qwen3")
RANKS = (0, 2, 4)


@dataclass(frozen=True)
class Fixed:
    """Draws the same configuration in every step."""

    points: tuple[int, ...]

    def draw(self, space: Space, rng: np.random.Generator, /) -> NDArray[np.int64]:
        return np.array(self.points)


@pytest.fixture(params=FAMILIES)
def base(request: pytest.FixtureRequest) -> Any:
    return families()[request.param]


@pytest.fixture
def fresh(base: Any) -> SuperAdapter:
    return SuperAdapter(base, named_space("sites", ModelShape.from_config(base.config), ranks=RANKS), seed=0)


@pytest.fixture
def trained(fresh: SuperAdapter) -> SuperAdapter:
    generator = torch.Generator().manual_seed(1)
    for tensor in fresh.state().values():
        tensor.copy_(0.3 * torch.randn(tensor.shape, generator=generator))
    return fresh


def drawn(super_adapter: SuperAdapter, n: int) -> NDArray[np.int64]:
    space = super_adapter.space
    codes: NDArray[np.int64] = space.at(space.spread(n, np.random.default_rng(5)))
    return codes


def logits_of(super_adapter: SuperAdapter, ids: torch.Tensor, codes: NDArray[np.int64]) -> torch.Tensor:
    with super_adapter.activated(codes), torch.no_grad():
        logits: torch.Tensor = super_adapter.model(ids).logits
    return logits


def ranks_of(super_adapter: SuperAdapter, codes: NDArray[np.int64]) -> dict[str, int]:
    return {site.path: int(rank) for site, rank in zip(super_adapter.space.sites, codes, strict=True)}


def tensors_of(super_adapter: SuperAdapter) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Copies of A and B that take gradients."""
    state = super_adapter.state()
    return {
        site.path: tuple(state[f"{site.path}.{half}"].clone().requires_grad_() for half in "AB")  # type: ignore[misc]
        for site in super_adapter.space.sites
    }


def test_a_sub_adapter_is_a_plain_adapter_of_its_ranks(trained: SuperAdapter, ids: torch.Tensor) -> None:
    tensors = tensors_of(trained)
    for codes in (trained.largest, *drawn(trained, 6)):
        ours = logits_of(trained, ids, codes)
        with trained.lifted(), plain_lora(trained.model, tensors, ranks_of(trained, codes)), torch.no_grad():
            theirs = trained.model(ids).logits
        assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


def test_every_sub_adapter_starts_as_the_base_to_the_bit(fresh: SuperAdapter, ids: torch.Tensor) -> None:
    ours = [logits_of(fresh, ids, codes) for codes in (fresh.largest, *drawn(fresh, 6))]
    fresh.remove()
    with torch.no_grad():
        base = fresh.model(ids).logits
    assert all(torch.equal(each, base) for each in ours)


def test_the_first_step_moves_the_active_slices_and_nothing_else(
    fresh: SuperAdapter, token_examples: Examples, tmp_path: Path
) -> None:
    points = tuple(number % 3 for number in range(fresh.space.n_axes))
    before = {name: tensor.clone() for name, tensor in fresh.state().items()}
    for name, tensor in fresh.state().items():  # a B of zeros would keep A where it is
        if name.endswith(".B"):
            tensor.fill_(0.1)
            before[name] = tensor.clone()
    train_super_adapter(
        fresh, token_examples(4), TrainingSettings(1, 0), folder=tmp_path / "run", step=TrainingStep(Fixed(points))
    )
    after = fresh.state()
    for path, rank in ranks_of(fresh, fresh.space.at(np.array(points))).items():
        (A, B), (a, b) = ([state[f"{path}.{half}"] for half in "AB"] for state in (before, after))
        assert torch.equal(a[rank:], A[rank:])
        assert torch.equal(b[:, rank:], B[:, rank:])
        assert not rank or ((a[:rank] != A[:rank]).any() and (b[:, :rank] != B[:, :rank]).any())


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


@pytest.mark.parametrize("weights", [(0.0, 1.0, 1.0), (0.5, 2.0, 0.9)])
def test_a_distilled_sandwich_has_the_gradients_of_its_definition(
    trained: SuperAdapter, token_examples: Examples, weights: tuple[float, float, float]
) -> None:
    examples = token_examples(5)
    codes = SANDWICH.codes(trained.space, seed=0, step=0)
    assert len(codes) == 3
    tensors = tensors_of(trained)
    with trained.lifted():
        labels, outputs, temperature = weights
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
    loss = accumulate_gradients(
        trained,
        codes,
        pad_batch(examples),
        n_tokens=sum(example.completion_tokens for example in examples),
        distil=Distillation(*weights),
    )
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    parameters = dict(trained.model.named_parameters())
    scale = max(float(tensor.grad.abs().max()) for halves in tensors.values() for tensor in halves)
    for path, halves in tensors.items():
        for half, reference in zip("AB", halves, strict=True):
            found = parameters[f"{path}.{half}"].grad
            assert found is not None
            assert reference.grad is not None
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


def test_logits_are_those_of_the_whole_sequence_at_completion_tokens(
    trained: SuperAdapter, token_examples: Examples
) -> None:
    examples = token_examples(6)
    batch = pad_batch(examples)
    with torch.no_grad():
        logits, tokens = completion_logits(trained.model, batch)
        whole = trained.model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = torch.cat([whole[n, e.prompt_tokens - 1 : len(e.ids) - 1] for n, e in enumerate(examples)])
    torch.testing.assert_close(logits, expected)
    assert tokens.tolist() == [token for e in examples for token in e.ids[e.prompt_tokens :]]


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("step", [TrainingStep(SpreadSampler()), SANDWICH], ids=repr)
@pytest.mark.parametrize("change", [{"activation_checkpointing": True}, {"batch_size": 2, "micro_batches": 2}], ids=str)
def test_checkpointing_and_accumulation_do_not_change_the_result(
    base: Any, token_examples: Examples, tmp_path: Path, step: TrainingStep, change: dict[str, Any]
) -> None:
    space, states = named_space("sites", ModelShape.from_config(base.config), ranks=RANKS), []
    for number, options in enumerate(({"batch_size": 4}, {"batch_size": 4, **change})):
        super_adapter = SuperAdapter(base, space, seed=0)
        train_super_adapter(
            super_adapter,
            token_examples(8),
            TrainingSettings(4, 0, learning_rate=1e-3, **options),
            folder=tmp_path / str(number),
            step=step,
        )
        states.append({name: tensor.clone() for name, tensor in super_adapter.state().items()})
        super_adapter.remove()
    assert not any(getattr(module, "gradient_checkpointing", False) for module in base.modules())
    for name, expected in states[0].items():
        torch.testing.assert_close(states[1][name], expected, rtol=0, atol=2e-5)


def test_the_seeds_ranks_have_the_parameters_of_their_definition() -> None:
    """Ranks 32, 24 and 16 on q, k, v, up and down of a Llama of 30 layers, hidden 576, intermediate 1536, 9/3 heads."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
    )
    shape = ModelShape.from_config(config)
    kinds = ("q_proj", "k_proj", "v_proj", "up_proj", "down_proj")
    found = [Configuration.uniform(shape, rank, kinds=kinds).adapter_parameters(shape) for rank in (32, 24, 16)]
    assert found == [6_635_520, 4_976_640, 3_317_760]
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    paths = [[site.path] for site in shape.sites if site.kind in kinds]
    space = rank_space("seeds", shape, paths, [(16, 24, 32)] * len(paths))
    assert sum(each.numel() for each in SuperAdapter(model, space, seed=0).state().values()) == 6_635_520
