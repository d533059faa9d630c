"""Merging and exporting sub-adapters on sparse bases, by rules written out here."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import exported, on_grid_of
from transformers import AutoModelForCausalLM, PreTrainedModel

from adaptare.core import InputError
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.programs.onnx.quantise import dequantised_weights
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search import CompletionLoss, train_super_adapter
from adaptare.search.super_adapter.base_model import decoder_linears, round_base
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.merging import merged_weights, requantised, share_of_zeros
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import MaskedElasticLinear, QuantisedElasticLinear
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.token_examples import TokenExample

Adapted = Callable[[type[ElasticLinear]], SuperAdapter]
LAYERS = pytest.mark.parametrize("layer", [MaskedElasticLinear, QuantisedElasticLinear])


def chosen(super_adapter: SuperAdapter) -> Configuration:
    """Ranks 2, 4 and 6 at random."""
    space = super_adapter.space
    return space.decode(space.at(space.sample(1, np.random.default_rng(5)))[0])


def logits(super_adapter: SuperAdapter, config: Configuration, ids: torch.Tensor) -> torch.Tensor:
    with super_adapter.activated(config), torch.no_grad():
        found: torch.Tensor = super_adapter.model(ids).logits
    return found


def zeros(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {path: linear.weight == 0 for path, linear in decoder_linears(model).items()}


def test_a_dense_merge_into_a_sparse_base_is_refused(adapted: Adapted, base: Path, tmp_path: Path) -> None:
    super_adapter = adapted(ElasticLinear)
    config = chosen(super_adapter)
    refusal = r"would leave 0\.0% zeros in 10 linears that are 50\.0% zeros now; .* sqft-sparsepeft"
    with pytest.raises(InputError, match=refusal):
        exported(super_adapter, config, tmp_path / "merged", base_name=None, kind="merged")
    with pytest.raises(InputError, match=refusal):
        exported(super_adapter, config, tmp_path / "onnx", kind="onnx", base=base, cache=tmp_path / "cache")
    with pytest.raises(InputError, match=refusal):
        requantised(super_adapter, config, base, "int4")
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / "onnx").exists()


def test_a_masked_merge_has_the_zeros_of_its_base(adapted: Adapted, ids: torch.Tensor, tmp_path: Path) -> None:
    super_adapter = adapted(MaskedElasticLinear)
    config = chosen(super_adapter)
    with super_adapter.lifted():
        before = zeros(super_adapter.model)
    exported(super_adapter, config, tmp_path / "merged", base_name=None, kind="merged", is_read=False)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    after = zeros(merged)
    assert all(torch.equal(after[path], before[path]) for path in before)
    assert share_of_zeros([linear.weight for linear in decoder_linears(merged).values()]) == 0.5
    with torch.no_grad():
        assert (merged(ids).logits - logits(super_adapter, config, ids)).abs().max() < 1e-4
    assert (logits(super_adapter, config, ids) - logits(super_adapter, Configuration(), ids)).abs().max() > 1e-2


def load_base_of(folder: Path) -> PreTrainedModel:
    """Without a tokenizer, which these bases lack."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(False).eval()


def quantisation_aware(super_adapter: SuperAdapter, base: Path) -> SuperAdapter:
    """As it is trained: on a rounded base whose original weights are kept."""
    found = on_grid_of(super_adapter, load_base_of(base))
    assert found.layer.on_grid
    return found


@pytest.mark.slow
def test_codes_of_a_quantisation_aware_merge_are_those_that_were_trained(
    adapted: Adapted, base: Path, tmp_path: Path
) -> None:
    trained = quantisation_aware(adapted(QuantisedElasticLinear), base)
    config = chosen(trained)
    options: dict[str, Any] = {"quantisation": "int4", "base": base, "cache": tmp_path / "cache"}
    exported(trained, config, tmp_path / "merged", kind="onnx", **options)
    found = dequantised_weights(tmp_path / "merged" / "model.onnx")
    original = load_base_of(base)
    for path, weight in merged_weights(trained.sub_adapter(config)).items():
        if not path.endswith(("k_proj", "v_proj")):
            # In the packed product of queries, keys and values, queries come first.
            written = found[f"{path.replace('q_proj', 'qkv_proj')}.weight"][:, : len(weight)]
            assert np.array_equal(written, weight.T.numpy()), path
        assert (weight[original.get_submodule(path).weight == 0] == 0).all()


def test_a_quantisation_aware_model_computes_as_its_merged_weights(
    adapted: Adapted, base: Path, ids: torch.Tensor
) -> None:
    trained = quantisation_aware(adapted(QuantisedElasticLinear), base)
    config = chosen(trained)
    model = load_base_of(base)
    round_base(model, "int4")
    rounded = {path: linear.weight.clone() for path, linear in decoder_linears(model).items()}
    for path, weight in merged_weights(trained.sub_adapter(config)).items():
        model.get_submodule(path).weight.data = weight
    with torch.no_grad():
        assert (model(ids).logits - logits(trained, config, ids)).abs().max() < 1e-4
    left = {site.path for site in trained.shape.sites} - config.by_path.keys()
    assert left
    assert all(torch.equal(model.get_submodule(path).weight, rounded[path]) for path in left)


@LAYERS
def test_what_exists_merged_only_is_not_written_as_an_adapter(
    layer: type[ElasticLinear], adapted: Adapted, base: Path, tmp_path: Path
) -> None:
    super_adapter = adapted(layer)
    config = chosen(super_adapter)
    for kind in ("peft", "onnx-adapter", "onnx-static", "onnx-swappable"):
        with pytest.raises(InputError, match=r"only the non-zero weights of its base, .* export it merged"):
            exported(super_adapter, config, tmp_path / kind, kind=kind, base=base, cache=tmp_path / "cache")


def test_a_few_steps_lower_the_loss_and_leave_the_base_alone(
    adapted: Adapted, examples: list[TokenExample], tmp_path: Path
) -> None:
    super_adapter = adapted(QuantisedElasticLinear)
    with super_adapter.lifted():
        before = {name: tensor.clone() for name, tensor in super_adapter.model.state_dict().items()}
    largest = super_adapter.largest[None]
    untrained = float(CompletionLoss(super_adapter, examples)(largest)[0])
    settings = TrainingSettings(10, 0, batch_size=4, learning_rate=1e-2)
    train_super_adapter(super_adapter, examples, settings, folder=tmp_path / "run")
    assert float(CompletionLoss(super_adapter, examples)(largest)[0]) < untrained - 0.1
    with super_adapter.lifted():
        after = super_adapter.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize(
    ("dense", "quantisation", "rounded"),
    [({}, "int4", True), ({}, "int8", False), ({"hidden_size": 72}, "int4", False)],
    indirect=["dense"],
)
def test_an_embedding_that_is_tied_is_rounded_with_the_head_in_4_bits_and_whole_blocks_only(
    pruned: PreTrainedModel, quantisation: str, rounded: bool
) -> None:
    before = pruned.get_input_embeddings().weight.detach().clone()
    assert pruned.get_output_embeddings().weight is pruned.get_input_embeddings().weight
    round_base(pruned, quantisation)
    head, embedding = pruned.get_output_embeddings().weight, pruned.get_input_embeddings().weight
    assert not torch.equal(head, before)
    assert torch.equal(embedding, head if rounded else before)
    assert pruned.config.tie_word_embeddings is rounded


def test_widths_are_refused_by_layers_that_keep_zeros(pruned: PreTrainedModel) -> None:
    shape = ModelShape.from_config(pruned.config)
    entries = [{"sites": ["*.up_proj"], "ranks": [2]}, {"widths": [shape.intermediate // 2, shape.intermediate]}]
    with pytest.raises(InputError, match=r"cuts linears, which adapters that keep the zeros .* give it ranks only"):
        SuperAdapter(pruned, grouped_space("narrow", entries, shape), seed=0, layer=MaskedElasticLinear)
    assert type(pruned.get_submodule("model.layers.0.mlp.up_proj")) is torch.nn.Linear
