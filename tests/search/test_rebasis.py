"""Adapters that PEFT saved, in the basis of their singular vectors, against dense decompositions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from adaptare.search.export.peft_import import import_peft
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.rebasis import energy_lost, ladder_space, on_space, rebase, weight_grams
from adaptare.search.training.passes import activation_grams
from adaptare.search.training.token_examples import TokenExample

Array = NDArray[np.float64]
SIZES = {"vocab_size": 96, "intermediate_size": 40, "num_hidden_layers": 2, "initializer_range": 0.3}
MIXED = {
    "r": 6,
    "lora_alpha": 9,
    "target_modules": ["q_proj", "k_proj", "down_proj"],
    "rank_pattern": {"k_proj": 3, "layers.1.mlp.down_proj": 8},
    "alpha_pattern": {"layers.0.self_attn.q_proj": 2},
    "use_rslora": True,
}
DOWN = "model.layers.1.mlp.down_proj"


def base() -> PreTrainedModel:
    """Random weights, the same in every call; queries have 9 heads, keys and values 3."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LlamaConfig(hidden_size=36, num_attention_heads=9, num_key_value_heads=3, **SIZES)
        return LlamaForCausalLM(config).eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A trained rsLoRA of mixed ranks and scales, as PEFT saves it."""
    model = get_peft_model(base(), LoraConfig(**MIXED))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def imported(folder: Path) -> SuperAdapter:
    found = SuperAdapter.of(import_peft(folder, base()))
    return on_space(found, ladder_space(found))


@pytest.fixture
def examples() -> list[TokenExample]:
    rng = np.random.default_rng(4)
    lengths = [(int(rng.integers(2, 7)), int(rng.integers(1, 5))) for _ in range(9)]
    return [TokenExample(tuple(rng.integers(0, 96, size=sum(each)).tolist()), each[0]) for each in lengths]


def updates(super_adapter: SuperAdapter, ranks: dict[str, int] | None = None) -> dict[str, Array]:
    """Dense update of the weights of each site."""
    largest = super_adapter.space.decode(super_adapter.largest).by_path
    config = super_adapter.space.decode(super_adapter.largest)
    found = {}
    for path, own in super_adapter.halves(config).items():
        rank = (ranks or largest)[path]
        found[path] = own.scale * own.B.astype(np.float64)[:, :rank] @ own.A.astype(np.float64)[:rank]
    return found


def inputs_of(super_adapter: SuperAdapter, examples: list[TokenExample]) -> dict[str, Array]:
    """Inputs of each site, one example at a time. Shape (tokens, in)."""
    seen: dict[str, list[Array]] = {site.path: [] for site in super_adapter.space.sites}
    hooks = [
        super_adapter.model.get_submodule(path).register_forward_pre_hook(
            lambda module, inputs, rows=rows: rows.append(inputs[0][0].double().numpy())
        )
        for path, rows in seen.items()
    ]
    with torch.no_grad():
        for example in examples:
            super_adapter.model(torch.tensor([example.ids]))
    for hook in hooks:
        hook.remove()
    return {path: np.concatenate(rows) for path, rows in seen.items()}


def truncated(matrix: Array, rank: int) -> Array:
    U, S, V = np.linalg.svd(matrix, full_matrices=False)
    found: Array = U[:, :rank] * S[:rank] @ V[:rank]
    return found


def test_the_ladder_ends_with_the_ranks_that_were_trained(imported: SuperAdapter) -> None:
    choices = {axis.dimensions[0].place: axis.choices for axis in imported.space.axes}
    assert choices[DOWN] == (0, 1, 2, 3, 4, 6, 8)
    assert choices["model.layers.0.self_attn.q_proj"] == (0, 1, 2, 3, 4, 6)
    assert choices["model.layers.0.self_attn.k_proj"] == (0, 1, 2, 3)


@pytest.mark.parametrize("with_data", [False, True])
def test_at_full_rank_it_computes_what_stock_peft_computes(
    folder: Path,
    imported: SuperAdapter,
    examples: list[TokenExample],
    with_data: bool,
) -> None:
    ids = torch.tensor([example.ids[:3] for example in examples])
    with torch.no_grad():
        plain = base()(ids).logits
        expected = PeftModel.from_pretrained(base(), str(folder)).eval()(ids).logits
        rebase(imported, activation_grams(imported, examples) if with_data else weight_grams(imported))
        found = imported.model(ids).logits
    assert (found - expected).abs().max() <= 1e-4
    assert (expected - plain).abs().max() > 0.1


def test_slices_are_the_truncated_decomposition_of_the_update(imported: SuperAdapter) -> None:
    before = updates(imported)
    rebase(imported, weight_grams(imported))
    for rank in (1, 2, 3):
        for path, found in updates(imported, dict.fromkeys(before, rank)).items():
            np.testing.assert_allclose(found, truncated(before[path], rank), atol=1e-5)


def test_slices_lose_the_least_on_the_inputs_that_were_seen(
    imported: SuperAdapter, examples: list[TokenExample]
) -> None:
    before, inputs = updates(imported), inputs_of(imported, examples)
    rebase(imported, activation_grams(imported, examples))
    for rank in (1, 2):
        for path, found in updates(imported, dict.fromkeys(before, rank)).items():
            outputs = before[path] @ inputs[path].T
            np.testing.assert_allclose(found @ inputs[path].T, truncated(outputs, rank), atol=1e-4)


def test_both_halves_share_the_size_of_each_rank(imported: SuperAdapter) -> None:
    rebase(imported, weight_grams(imported))
    for own in imported.halves(imported.space.decode(imported.largest)).values():
        A, B = torch.from_numpy(own.A), torch.from_numpy(own.B)
        torch.testing.assert_close(A.norm(dim=1), B.norm(dim=0))


def test_energies_are_those_of_the_dense_updates(imported: SuperAdapter, examples: list[TokenExample]) -> None:
    inputs = inputs_of(imported, examples)
    grams = activation_grams(imported, examples)
    for basis in ("as trained", "by singular values"):
        whole, lost = updates(imported), energy_lost(imported, grams)
        total = sum(np.square(whole[path] @ inputs[path].T).sum() for path in whole)
        for column, site in enumerate(imported.space.sites):
            for rank in range(int(imported.largest[column]) + 1):
                left = whole[site.path] - updates(imported, dict.fromkeys(whole, rank))[site.path]
                share = np.square(left @ inputs[site.path].T).sum() / total
                assert lost[column, rank] == pytest.approx(share, abs=1e-6), basis
        grams = rebase(imported, grams)


def test_an_adapter_that_changes_nothing_loses_nothing(imported: SuperAdapter) -> None:
    for name, tensor in imported.state().items():
        if name.endswith(".B"):
            tensor.zero_()
    grams = rebase(imported, weight_grams(imported))
    assert not energy_lost(imported, grams).any()
    assert all(tensor.isfinite().all() for tensor in imported.state().values())


def test_what_moves_to_a_smaller_space_computes_the_same(imported: SuperAdapter) -> None:
    ids = torch.arange(12)[None]
    config = imported.space.decode(imported.space.at(np.minimum(imported.space.highest, 2)))
    with torch.no_grad():
        imported.activate(config)
        expected = imported.model(ids).logits
        space = ladder_space(imported)
        moved = on_space(imported, space)
        moved.activate(config)
        torch.testing.assert_close(moved.model(ids).logits, expected)
