"""Exported decoders and parts of them, against the same modules in torch."""

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_graphs import Export, Inputs, graph_of
from transformers import DynamicCache, LlamaConfig, PreTrainedModel, StableLmConfig

from adaptare.core import InputError, ProgramError
from adaptare.profiler import ModelShape
from adaptare.profiler.models.random_model import cache_argument, random_model
from adaptare.profiler.programs.onnx import export as onnx_export
from adaptare.profiler.programs.onnx.base import HEAD
from adaptare.profiler.programs.onnx.export import run_model, tolerance_of

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 72}
BLOCK, LAYER = "model.layers.0", "model.layers.0.mlp.down_proj"


def cached(model: PreTrainedModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Keys and values of a prefill, every position kept. Shapes (batch, heads, tokens, head)."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=ids, use_cache=True, **{cache_argument(model): cache})
    return [half for layer in cache.layers for half in (layer.keys, layer.values)]


def check_close(model: PreTrainedModel, ours: NDArray[np.float32], expected: torch.Tensor) -> None:
    largest = float(expected.abs().max())
    assert largest > 0.1
    assert np.abs(ours - expected.numpy()).max() <= tolerance_of(model.config) * largest


@pytest.mark.parametrize("past", [0, 40], ids=["prefill", "decode"])
def test_logits_and_cache_are_those_of_the_family_with_its_own_cache(export: Export, family: str, past: int) -> None:
    """Of two rows, beyond windows of 16. Transformers drops what lies outside a window; the graph masks it."""
    model, base = export(family)
    ids = torch.randint(0, 64, (2, 41), generator=torch.Generator().manual_seed(3))
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        if past:
            model(input_ids=ids[:, :past], **{cache_argument(model): cache})
        logits = model(input_ids=ids[:, past:], **{cache_argument(model): cache}).logits[:, -1:]
    halves = cached(model, ids)
    flat = [ids[:, past:], torch.ones_like(ids), *(half[:, :, :past] for half in halves)]
    inputs = {port.name: value.numpy() for port, value in zip(base.inputs, flat, strict=True)}
    for ours, expected in zip(run_model(base.model, inputs), [logits, *halves], strict=True):
        check_close(model, ours, expected)


def test_sites_are_the_products_with_the_linears_of_the_shape(export: Export, family: str) -> None:
    model, base = export(family)
    graph = graph_of(base.model)
    tensors, nodes = ({each.name: each for each in every} for every in (graph.initializer, graph.node))
    assert list(base.sites) == [site.path for site in ModelShape.from_config(model.config).sites]
    for path, site in base.sites.items():
        weight = numpy_helper.to_array(tensors[site.weight], str(base.folder))
        assert np.array_equal(weight.T, model.get_submodule(path).weight.numpy())
        assert nodes[path].op_type == "MatMul"
        assert (list(nodes[path].input), list(nodes[path].output)) == ([site.input, site.weight], [site.output])


def test_tokens_and_the_cache_go_in(export: Export) -> None:
    _, base = export("llama")
    caches = [f"past_key_values.{layer}.{half}" for layer in (0, 1) for half in ("key", "value")]
    assert [port.name for port in base.inputs] == ["input_ids", "attention_mask", *caches]
    assert [port.dtype for port in base.inputs] == ["int64", "int64", *["float32"] * 4]
    sizes = [port.sizes(batch=3, tokens=5, past=7) for port in base.inputs]
    assert sizes == [[3, 5], [3, 12], *[[3, 2, 7, 16]] * 4]


def test_its_size_is_that_of_its_data(export: Export) -> None:
    _, base = export("llama")
    packed = sum(4 * int(np.prod(each.dims)) for each in graph_of(base.packed).initializer if "qkv_proj" in each.name)
    assert base.weight_bytes + packed == pytest.approx((base.folder / "model.onnx.data").stat().st_size, rel=0.05)


@pytest.mark.parametrize("family", ["gemma2", "phi3"])
def test_a_cut_block_computes_decoder_layer_0(export: Export, inputs_of: Inputs, family: str) -> None:
    model, base = export(family, BLOCK)
    past = 5
    inputs = inputs_of(base, past=past)
    hidden = torch.from_numpy(next(value for value in inputs.values() if value.shape[-1] == 32))
    cache = DynamicCache()
    cache.update(*(torch.from_numpy(inputs[f"past_key_values.0.{half}"]) for half in ("key", "value")), 0)
    positions = torch.arange(past, past + hidden.shape[1])
    seen = torch.arange(past + hidden.shape[1]) <= positions[:, None]
    mask = torch.where(seen, 0.0, -torch.inf)[None, None]
    with torch.inference_mode():
        rotary = model.model.rotary_emb(hidden, positions[None])
        arguments = {"position_embeddings": rotary, "attention_mask": mask, "use_cache": True}
        expected = model.model.layers[0](hidden, **arguments, **{cache_argument(model): cache})
    found = run_model(base.model, inputs)
    for ours, other in zip(found, (expected, cache.layers[0].keys, cache.layers[0].values), strict=True):
        check_close(model, ours, other)
    assert list(base.sites) == [site.path for site in ModelShape.from_config(model.config).sites]


@pytest.mark.parametrize(("family", "module"), [("llama", LAYER), ("qwen2", f"{BLOCK}.self_attn.q_proj")])
def test_a_cut_layer_is_the_linear_with_its_bias_alone(
    export: Export, inputs_of: Inputs, family: str, module: str
) -> None:
    model, base = export(family, module)
    (x,) = inputs_of(base).values()
    linear = model.get_submodule(module)
    (ours,) = run_model(base.model, inputs_of(base))
    check_close(model, ours, linear(torch.from_numpy(x)))
    assert len(graph_of(base.model).initializer) == (1 if linear.bias is None else 2)
    assert list(base.sites) == [module]


def test_nothing_in_the_graph_tells_where_it_was_made(export: Export) -> None:
    _, base = export("llama", BLOCK)
    model = onnx.load(base.model, load_external_data=False)
    noted = [*model.metadata_props, *model.graph.metadata_props, *model.graph.value_info, *model.functions]
    noted += [entry for node in model.graph.node for entry in node.metadata_props]
    noted += [entry for value in (*model.graph.input, *model.graph.output) for entry in value.metadata_props]
    assert [str(entry) for entry in noted] == []
    content = base.model.read_bytes()
    assert re.findall(rb"[\w./-]*(?:site-packages|\.py\b|pkg\.torch|nn\.Module)[\w./-]*", content) == []
    assert str(base.folder.parent).encode() not in content
    assert re.fullmatch(r"[\d.]+", model.producer_version)  # the version of the builder, without a commit


@pytest.mark.parametrize("family", ["gemma3", "phi3"])
def test_a_head_is_what_stays_of_one_layer_without_it(export: Export, inputs_of: Inputs, family: str) -> None:
    model, base = export(family, HEAD)
    inputs = inputs_of(base)
    with torch.inference_mode():
        hidden = model.model.norm(model.model.embed_tokens(torch.from_numpy(inputs["input_ids"])))[:, -1:]
        expected = model.lm_head(hidden)
    assert [port.name for port in base.inputs] == ["input_ids"]
    assert not base.sites
    check_close(model, run_model(base.model, inputs)[0], expected)


def test_a_module_that_the_graph_lacks_cannot_be_cut_out(export: Export, tmp_path: Path) -> None:
    model, _ = export("llama")
    with pytest.raises(ProgramError, match=r"the graph names no node of 'model\.layers\.9'; it cannot be timed alone"):
        onnx_export.export_decoder(model, tmp_path, module="model.layers.9")


def test_a_graph_that_computes_something_else_is_refused(
    export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, base = export("llama")
    doubled = copy.deepcopy(model)
    doubled.lm_head.weight.mul_(2)

    def copied(_: PreTrainedModel, folder: Path) -> onnx.ModelProto:
        shutil.copyfile(base.folder / "model.onnx.data", folder / "model.onnx.data")
        return onnx.load(base.model, load_external_data=False)

    monkeypatch.setattr(onnx_export, "_built", copied)
    with pytest.raises(ProgramError, match=r"the exported llama differs from torch by 0\.5$"):
        onnx_export.export_decoder(doubled, tmp_path)


def test_a_vocabulary_of_the_size_of_a_linear_is_refused(
    decoder: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    model = decoder("llama")
    model.resize_token_embeddings(model.config.intermediate_size)
    with pytest.raises(
        InputError, match=r"gate_proj has as many outputs as the vocabulary has tokens, 48, .*pad the voc"
    ):
        onnx_export.export_decoder(model, tmp_path)


def test_models_that_the_runtime_does_not_run_are_refused(tmp_path: Path) -> None:
    narrow = random_model(LlamaConfig(**SMALL, num_attention_heads=4).to_dict())
    with pytest.raises(InputError, match=r"takes a head_dim that is a multiple of 16, not 8; use a torch device"):
        onnx_export.export_decoder(narrow, tmp_path)
    unknown = random_model(StableLmConfig(**SMALL, num_attention_heads=2, num_key_value_heads=2).to_dict())
    with pytest.raises(ProgramError, match=r"onnxruntime-genai does not build stablelm: "):
        onnx_export.export_decoder(unknown, tmp_path)
