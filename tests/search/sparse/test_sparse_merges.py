"""Merging and exporting sub-adapters on sparse bases, of two families, by rules written out here."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exports import difference_in_peft, exported, on_grid_of
from transformers import AutoModelForCausalLM, PreTrainedModel

from adaptare.core import InputError
from adaptare.core.quantisation import BLOCK
from adaptare.profiler import Configuration, ModelShape
from adaptare.profiler.programs.onnx.quantise import dequantised_weights, rounded_weights
from adaptare.profiler.workloads.space_file import grouped_space
from adaptare.search import CompletionLoss, train_super_adapter
from adaptare.search.super_adapter.base_model import decoder_linears, keep_masters, round_base
from adaptare.search.super_adapter.elastic import ElasticLinear
from adaptare.search.super_adapter.file import load_super_adapter, save_super_adapter
from adaptare.search.super_adapter.merging import merged_weights, requantised, share_of_zeros
from adaptare.search.super_adapter.model import SuperAdapter
from adaptare.search.super_adapter.quantised import MaskedElasticLinear, QuantisedElasticLinear
from adaptare.search.training.record import TrainingSettings
from adaptare.search.training.token_examples import TokenExample

Adapted = Callable[[type[ElasticLinear]], SuperAdapter]
# How to choose a sub-adapter: points of the choices 2, 4, 6.
CHOICES = {"minimal": 0, "heuristic": 1, "maximal": 2}
LAYERS = pytest.mark.parametrize("layer", [MaskedElasticLinear, QuantisedElasticLinear])


def chosen(super_adapter: SuperAdapter, name: str) -> Configuration:
    space = super_adapter.space
    if name == "mixed":
        points = np.random.default_rng(5).integers(0, 3, space.n_axes)
    else:
        points = np.full(space.n_axes, CHOICES[name])
    return space.decode(space.at(points))


def logits(super_adapter: SuperAdapter, config: Configuration, ids: torch.Tensor) -> torch.Tensor:
    with super_adapter.activated(config), torch.no_grad():
        found: torch.Tensor = super_adapter.model(ids).logits
    return found


def zeros(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {path: linear.weight == 0 for path, linear in decoder_linears(model).items()}


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["minimal", "heuristic", "maximal", "mixed"])
def test_stock_peft_on_the_sparse_base_computes_the_same(
    choice: str, adapted: Adapted, base: Path, tmp_path: Path
) -> None:
    super_adapter = adapted(ElasticLinear)
    config = chosen(super_adapter, choice)
    exported(super_adapter, config, tmp_path / "adapter", base_name=None)
    assert (tmp_path / "adapter" / "adapter_model.safetensors").exists()
    assert difference_in_peft(super_adapter, config, tmp_path / "adapter", base) < 1e-5


def test_a_dense_merge_into_a_sparse_base_is_refused(adapted: Adapted, with_tokenizer: Path, tmp_path: Path) -> None:
    super_adapter = adapted(ElasticLinear)
    config = chosen(super_adapter, "maximal")
    refusal = r"would leave 0\.0% zeros in 10 linears that are 50\.0% zeros now; .* sqft-sparsepeft"
    with pytest.raises(InputError, match=refusal):
        exported(super_adapter, config, tmp_path / "merged", base_name=None, kind="merged")
    with pytest.raises(InputError, match=refusal):
        exported(super_adapter, config, tmp_path / "onnx", kind="onnx", base=with_tokenizer, cache=tmp_path / "cache")
    with pytest.raises(InputError, match=refusal):
        requantised(super_adapter, config, with_tokenizer, "int4")
    assert not (tmp_path / "merged").exists()
    assert not (tmp_path / "onnx").exists()


def test_a_plain_adapter_would_have_filled_the_zeros(adapted: Adapted) -> None:
    super_adapter = adapted(ElasticLinear)
    config = chosen(super_adapter, "maximal")
    filled = [
        super_adapter.model.get_submodule(path).base.weight + torch.from_numpy(own.scale * (own.B @ own.A))
        for path, own in super_adapter.halves(config).items()
    ]
    assert share_of_zeros(filled) < 1e-3


@pytest.mark.parametrize("choice", ["heuristic", "mixed"])
def test_a_masked_merge_has_the_zeros_of_its_base(
    choice: str, adapted: Adapted, ids: torch.Tensor, tmp_path: Path
) -> None:
    super_adapter = adapted(MaskedElasticLinear)
    config = chosen(super_adapter, choice)
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


@LAYERS
def test_a_saved_super_adapter_merges_as_before(
    layer: type[ElasticLinear], adapted: Adapted, base: Path, tmp_path: Path
) -> None:
    super_adapter = adapted(layer)
    config = chosen(super_adapter, "mixed")
    save_super_adapter(super_adapter, tmp_path / "saved")
    again = load_super_adapter(tmp_path / "saved", load_base_of(base), layer=layer)
    before, after = merged_weights(super_adapter.sub_adapter(config)), merged_weights(again.sub_adapter(config))
    assert before.keys() == after.keys() == config.by_path.keys()
    assert all(torch.equal(after[path], before[path]) for path in before)


def load_base_of(folder: Path) -> PreTrainedModel:
    """Without a tokenizer, which these bases lack."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).requires_grad_(False).eval()


@pytest.fixture
def with_tokenizer(base: Path, tokenizer: Any) -> Path:
    tokenizer.save_pretrained(base)
    return base


def quantisation_aware(super_adapter: SuperAdapter, base: Path) -> SuperAdapter:
    """As it is trained: on a rounded base whose original weights are kept."""
    found = on_grid_of(super_adapter, load_base_of(base))
    assert found.layer.on_grid
    return found


@pytest.mark.slow
def test_codes_of_a_quantisation_aware_merge_are_those_that_were_trained(
    adapted: Adapted, with_tokenizer: Path, tmp_path: Path
) -> None:
    trained = quantisation_aware(adapted(QuantisedElasticLinear), with_tokenizer)
    config = chosen(trained, "mixed")
    options: dict[str, Any] = {
        "kind": "onnx",
        "quantisation": "int4",
        "base": with_tokenizer,
        "cache": tmp_path / "cache",
    }
    exported(trained, config, tmp_path / "merged", **options)
    exported(trained, Configuration(), tmp_path / "plain", **options)
    merged, plain = (packed(tmp_path / name / "model.onnx", trained.shape) for name in ("merged", "plain"))
    assert merged.keys() == plain.keys()
    changed = {name for name in merged if not np.array_equal(merged[name][0], plain[name][0])}
    assert len(changed) == len(config.ranks)
    assert all(np.array_equal(merged[name][1], plain[name][1]) for name in merged)
    found = dequantised_weights(tmp_path / "merged" / "model.onnx")
    linears = [part for each in found.values() for part in np.split(each, ends(each.shape[1], trained.shape), axis=1)]
    expected = {path: weight.T.numpy() for path, weight in merged_weights(trained.sub_adapter(config)).items()}
    for path, weight in expected.items():
        assert sum(weight.shape == other.shape and np.array_equal(weight, other) for other in linears) == 1, path
    original = load_base_of(with_tokenizer)
    for path, weight in expected.items():
        assert (weight[original.get_submodule(path).weight.T.numpy() == 0] == 0).all()


def ends(width: int, shape: ModelShape) -> list[int]:
    """Outputs behind which those of k and of v begin, if this is the width of q, k and v in one product."""
    query, key = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return [query, query + key] if width == query + 2 * key else []


def packed(model: Path, shape: ModelShape) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Codes and scales of the linears of a graph, by the name of the weight; q, k and v may be one product."""
    graph = onnx.load(model).graph
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert products
    found = {}
    for node in products:
        halves = [np.split(tensors[name], ends(len(tensors[name]), shape)) for name in node.input[1:3]]
        found |= {f"{node.input[2]} {number}": pair for number, pair in enumerate(zip(*halves, strict=True))}
    return found


def test_a_quantisation_aware_model_computes_as_its_merged_weights(
    adapted: Adapted, with_tokenizer: Path, ids: torch.Tensor
) -> None:
    trained = quantisation_aware(adapted(QuantisedElasticLinear), with_tokenizer)
    config = chosen(trained, "mixed")
    model = load_base_of(with_tokenizer)
    round_base(model, "int4")
    rounded = {path: linear.weight.clone() for path, linear in decoder_linears(model).items()}
    for path, weight in merged_weights(trained.sub_adapter(config)).items():
        model.get_submodule(path).weight.data = weight
    with torch.no_grad():
        assert (model(ids).logits - logits(trained, config, ids)).abs().max() < 1e-4
    left = {site.path for site in trained.shape.sites} - config.by_path.keys()
    assert left
    assert all(torch.equal(model.get_submodule(path).weight, rounded[path]) for path in left)


def test_merging_and_rounding_again_would_change_the_scales(adapted: Adapted, with_tokenizer: Path) -> None:
    trained = quantisation_aware(adapted(QuantisedElasticLinear), with_tokenizer)
    merged = merged_weights(trained.sub_adapter(chosen(trained, "maximal")))
    again = rounded_weights({path: weight.T.numpy() for path, weight in merged.items()}, "int4")
    assert not all(np.array_equal(again[path].T, weight.numpy()) for path, weight in merged.items())


@pytest.mark.slow
def test_a_merged_4_bit_model_has_the_operators_of_its_base_and_an_unmerged_one_two_products_more_per_site(
    adapted: Adapted, with_tokenizer: Path, tmp_path: Path
) -> None:
    super_adapter = adapted(ElasticLinear)
    config = chosen(super_adapter, "heuristic")
    options: dict[str, Any] = {"quantisation": "int4", "base": with_tokenizer, "cache": tmp_path / "cache"}
    exported(super_adapter, config, tmp_path / "apart", kind="onnx-static", **options)
    super_adapter.remove()
    keep_masters(super_adapter.model)
    trained = SuperAdapter(super_adapter.model, super_adapter.space, seed=0, layer=QuantisedElasticLinear)
    exported(trained, config, tmp_path / "merged", kind="onnx", **options)
    exported(trained, Configuration(), tmp_path / "base4", kind="onnx", **options)
    apart, merged, base = (
        Counter(node.op_type for node in onnx.load(tmp_path / name / "model.onnx", load_external_data=False).graph.node)
        for name in ("apart", "merged", "base4")
    )
    assert merged == base
    added = apart - base
    assert added["MatMul"] + added["Gemm"] == 2 * len(config.ranks)


@LAYERS
def test_what_exists_merged_only_is_not_written_as_an_adapter(
    layer: type[ElasticLinear], adapted: Adapted, base: Path, tmp_path: Path
) -> None:
    super_adapter = adapted(layer)
    config = chosen(super_adapter, "heuristic")
    refusal = "only the non-zero weights of its base, .* export it merged"
    with pytest.raises(InputError, match=refusal):
        exported(super_adapter, config, tmp_path / "peft", base_name=None)
    with pytest.raises(InputError, match=refusal):
        exported(super_adapter, config, tmp_path / "alone", base_name=None, kind="onnx-adapter")
    for kind in ("onnx-static", "onnx-swappable"):
        with pytest.raises(InputError, match=refusal):
            exported(super_adapter, config, tmp_path / kind, kind=kind, base=base, cache=tmp_path / "cache")


def test_ranks_outside_the_space_are_refused_and_custom_ones_within_it_are_not(adapted: Adapted) -> None:
    super_adapter = adapted(MaskedElasticLinear)
    path = "model.layers.0.self_attn.q_proj"
    assert merged_weights(super_adapter.sub_adapter(Configuration.of({path: 3}))).keys() == {path}
    with pytest.raises(InputError, match=f"rank of {path} must be 0 to 6 in this super-adapter, not 7"):
        super_adapter.sub_adapter(Configuration.of({path: 7}))


@pytest.mark.slow_after(1)
@pytest.mark.parametrize("layer", [ElasticLinear, MaskedElasticLinear, QuantisedElasticLinear])
def test_fifty_steps_lower_the_loss_and_leave_the_base_alone(
    layer: type[ElasticLinear], adapted: Adapted, examples: list[TokenExample], tmp_path: Path
) -> None:
    super_adapter = adapted(layer)
    with torch.no_grad():
        for name, tensor in super_adapter.state().items():
            tensor.mul_(0 if name.endswith(".B") else 1)
    with super_adapter.lifted():
        before = {name: tensor.clone() for name, tensor in super_adapter.model.state_dict().items()}
    untrained = float(CompletionLoss(super_adapter, examples)(super_adapter.largest[None])[0])
    losses = train_super_adapter(
        super_adapter, examples, TrainingSettings(50, 0, batch_size=4, learning_rate=5e-3), folder=tmp_path / "run"
    )
    assert len(losses) == 50
    assert float(CompletionLoss(super_adapter, examples)(super_adapter.largest[None])[0]) < untrained - 0.1
    with super_adapter.lifted():
        after = super_adapter.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("quantisation", ["int4", "int8"])
def test_an_embedding_that_is_tied_is_rounded_with_the_head_in_4_bits_and_whole_blocks_only(
    pruned: PreTrainedModel, quantisation: str
) -> None:
    rounded = quantisation == "int4" and pruned.config.hidden_size % BLOCK == 0
    before = pruned.get_input_embeddings().weight.detach().clone()
    assert pruned.get_output_embeddings().weight is pruned.get_input_embeddings().weight
    round_base(pruned, quantisation)
    head, embedding = pruned.get_output_embeddings().weight, pruned.get_input_embeddings().weight
    assert not torch.equal(head, before)
    assert torch.equal(embedding, head if rounded else before)
    assert pruned.config.tie_word_embeddings is rounded


def test_masters_are_kept_beyond_rounding_and_not_saved(pruned: PreTrainedModel, tmp_path: Path) -> None:
    before = {path: linear.weight.clone() for path, linear in decoder_linears(pruned).items()}
    keep_masters(pruned)
    round_base(pruned, "int4")
    for path, linear in decoder_linears(pruned).items():
        assert torch.equal(linear.get_buffer("master"), before[path])
        assert not torch.equal(linear.weight, before[path])
    assert not any(name.endswith("master") for name in pruned.state_dict())


@LAYERS
def test_widths_are_refused_by_layers_that_keep_zeros(layer: type[ElasticLinear], pruned: PreTrainedModel) -> None:
    shape = ModelShape.from_config(pruned.config)
    entries = [{"sites": ["*.up_proj"], "ranks": [2]}, {"widths": [shape.intermediate // 2, shape.intermediate]}]
    with pytest.raises(InputError, match=r"cuts linears, which adapters that keep the zeros .* give it ranks only"):
        SuperAdapter(pruned, grouped_space("narrow", entries, shape), seed=0, layer=layer)
    assert type(pruned.get_submodule("model.layers.0.mlp.up_proj")) is torch.nn.Linear
