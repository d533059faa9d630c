"""Exported decoders and parts of them, against the same modules in torch."""

import copy
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from transformers import DynamicCache, LlamaConfig, PreTrainedModel, StableLmConfig

from adaptare.core import InputError, ProgramError
from adaptare.profiler import ModelShape
from adaptare.profiler.models.random_model import cache_argument, random_model
from adaptare.profiler.programs.onnx import export as onnx_export
from adaptare.profiler.programs.onnx.base import HEAD, OnnxBase
from adaptare.profiler.programs.onnx.cut import cut
from adaptare.profiler.programs.onnx.export import run_model, tolerance_of

Arrays = dict[str, NDArray[Any]]
Export = Callable[..., tuple[PreTrainedModel, OnnxBase]]
Inputs = Callable[..., Arrays]

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "vocab_size": 72}
BLOCK, LAYER = "model.layers.0", "model.layers.0.mlp.down_proj"
# Two rows (a batch), beyond the sliding windows of 16 where past + tokens exceeds it.
LENGTHS = {"prefill": (0, 9), "prefill beyond a window": (0, 40), "decode": (40, 1)}


def token_ids(*, batch: int, tokens: int) -> torch.Tensor:
    return torch.randint(0, 64, (batch, tokens), generator=torch.Generator().manual_seed(3))


def cached(model: PreTrainedModel, ids: torch.Tensor) -> list[torch.Tensor]:
    """Keys and values of a prefill, every position kept. Shapes (batch, heads, tokens, head)."""
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=ids, use_cache=True, **{cache_argument(model): cache})
    return [half for layer in cache.layers for half in (layer.keys, layer.values)]


def continued(model: PreTrainedModel, base: OnnxBase, ids: torch.Tensor, past: int) -> list[NDArray[np.float32]]:
    """Outputs of the graph for the tokens behind `past`, given the cache that torch made of those before."""
    halves = cached(model, ids[:, : max(1, past)])
    flat = [ids[:, past:], torch.ones_like(ids), *(half[:, :, :past] for half in halves)]
    return run_model(base.model, {port.name: value.numpy() for port, value in zip(base.inputs, flat, strict=True)})


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("length", LENGTHS)
def test_the_logits_are_those_of_one_pass_through_torch(export: Export, family: str, length: str, batch: int) -> None:
    model, base = export(family)
    past, tokens = LENGTHS[length]
    ids = token_ids(batch=batch, tokens=past + tokens)
    with torch.inference_mode():
        expected = model(input_ids=ids, use_cache=False).logits[:, -1:].numpy()
    ours = continued(model, base, ids, past)[0]
    assert np.abs(expected).max() > 1
    assert np.abs(ours - expected).max() <= tolerance_of(model.config) * np.abs(expected).max()


def test_decode_is_that_of_the_family_with_its_own_cache(export: Export, family: str) -> None:
    """Transformers drops what lies outside a sliding window; the graph masks it."""
    model, base = export(family)
    ids = token_ids(batch=2, tokens=41)
    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(input_ids=ids[:, :40], **{cache_argument(model): cache})
        expected = model(input_ids=ids[:, 40:], **{cache_argument(model): cache}).logits.numpy()
    ours = continued(model, base, ids, 40)[0]
    assert np.abs(ours - expected).max() <= tolerance_of(model.config) * np.abs(expected).max()


def test_the_cache_comes_out_grown(export: Export, family: str) -> None:
    model, base = export(family)
    ids = token_ids(batch=2, tokens=21)
    present = continued(model, base, ids, 20)[1:]
    expected = cached(model, ids)
    assert len(present) == len(expected) == 4
    for ours, half in zip(present, expected, strict=True):
        assert np.abs(ours - half.numpy()).max() <= tolerance_of(model.config) * np.abs(half.numpy()).max()


@pytest.mark.parametrize(("changed", "hidden"), [(25, True), (26, False)])
def test_a_token_sees_its_window_and_no_more(export: Export, inputs_of: Inputs, changed: int, hidden: bool) -> None:
    """Every layer of this decoder looks at 16 positions, so the last of 41 sees none of the first 25."""
    _, base = export("gemma3")
    inputs = inputs_of(base, tokens=1, past=40)
    before = run_model(base.model, inputs)[0]
    for name in base.inputs[2:]:
        inputs[name.name][:, :, :changed] += 1
    assert np.array_equal(run_model(base.model, inputs)[0], before) == hidden


def test_sites_are_those_of_the_shape_in_their_order(export: Export, family: str) -> None:
    model, base = export(family)
    assert list(base.sites) == [site.path for site in ModelShape.from_config(model.config).sites]


def test_the_weight_of_a_site_is_that_of_its_linear(export: Export, family: str) -> None:
    model, base = export(family)
    tensors = {tensor.name: tensor for tensor in onnx.load(base.model, load_external_data=False).graph.initializer}
    for path, site in base.sites.items():
        weight = numpy_helper.to_array(tensors[site.weight], str(base.folder))
        assert np.array_equal(weight.T, model.get_submodule(path).weight.numpy())


def test_a_site_lies_between_the_tensors_that_are_named(export: Export, family: str) -> None:
    _, base = export(family)
    found = {node.name: node for node in onnx.load(base.model, load_external_data=False).graph.node}
    for path, site in base.sites.items():
        assert found[path].op_type == "MatMul"
        assert (list(found[path].input), list(found[path].output)) == ([site.input, site.weight], [site.output])


def test_tokens_and_the_cache_go_in(export: Export, family: str) -> None:
    _, base = export(family)
    names = [
        "input_ids",
        "attention_mask",
        *(f"past_key_values.{layer}.{half}" for layer in (0, 1) for half in ("key", "value")),
    ]
    assert [port.name for port in base.inputs] == names
    assert [port.dtype for port in base.inputs] == ["int64", "int64", *["float32"] * 4]
    sizes = [port.sizes(batch=3, tokens=5, past=7) for port in base.inputs]
    assert sizes == [[3, 5], [3, 12], *[[3, 2, 7, 16]] * 4]


def test_a_saved_base_is_read_back(export: Export, tmp_path: Path) -> None:
    _, base = export("llama")
    saved = replace(base, folder=tmp_path, inputs=base.inputs[:2], weight_bytes=9, difference=2e-5, export_s=1.5)
    saved.save()
    assert OnnxBase.load(tmp_path) == saved


def test_its_size_is_that_of_its_data(export: Export) -> None:
    _, base = export("llama")
    tensors = onnx.load(base.packed, load_external_data=False).graph.initializer
    packed = sum(4 * int(np.prod(tensor.dims)) for tensor in tensors if "qkv_proj" in tensor.name)
    assert base.weight_bytes + packed == pytest.approx((base.folder / "model.onnx.data").stat().st_size, rel=0.05)


@pytest.mark.parametrize("family", ["llama", "gemma2", "phi3"])
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
        expected = model.model.layers[0](hidden, **arguments, **{cache_argument(model): cache}).numpy()
    ours, keys, values = run_model(base.model, inputs)
    assert np.abs(expected).max() > 1
    assert np.abs(ours - expected).max() <= tolerance_of(model.config) * np.abs(expected).max()
    assert np.abs(keys - cache.layers[0].keys.numpy()).max() <= 1e-4
    assert np.abs(values - cache.layers[0].values.numpy()).max() <= 1e-4


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_a_cut_block_holds_the_sites_of_one_layer(export: Export, family: str) -> None:
    model, base = export(family, BLOCK)
    assert list(base.sites) == [site.path for site in ModelShape.from_config(model.config).sites]


@pytest.mark.parametrize(("family", "module"), [("llama", LAYER), ("qwen2", f"{BLOCK}.self_attn.q_proj")])
def test_a_cut_layer_is_the_linear_with_its_bias(export: Export, inputs_of: Inputs, family: str, module: str) -> None:
    model, base = export(family, module)
    (x,) = inputs_of(base).values()
    linear = model.get_submodule(module)
    expected = x @ linear.weight.numpy().T + (0 if linear.bias is None else linear.bias.numpy())
    (ours,) = run_model(base.model, inputs_of(base))
    assert (linear.bias is not None) == (family == "qwen2")
    assert np.abs(ours - expected).max() <= 1e-5
    assert list(base.sites) == [module]


def test_a_cut_leaves_the_weights_of_other_modules_behind(export: Export) -> None:
    _, base = export("llama", LAYER)
    graph = onnx.load(base.model, load_external_data=False).graph
    assert [tensor.name for tensor in graph.initializer] == [f"{LAYER}.weight"]


@pytest.mark.parametrize("module", ["", BLOCK, LAYER])
def test_nothing_in_the_graph_tells_where_it_was_made(export: Export, module: str) -> None:
    _, base = export("llama", module)
    model = onnx.load(base.model, load_external_data=False)
    noted = [*model.metadata_props, *model.graph.metadata_props, *model.graph.value_info, *model.functions]
    noted += [entry for node in model.graph.node for entry in node.metadata_props]
    noted += [entry for value in (*model.graph.input, *model.graph.output) for entry in value.metadata_props]
    assert [str(entry) for entry in noted] == []
    content = base.model.read_bytes()
    assert re.findall(rb"[\w./-]*(?:site-packages|\.py\b|pkg\.torch|nn\.Module)[\w./-]*", content) == []
    assert str(base.folder.parent).encode() not in content
    assert re.fullmatch(r"[\d.]+", model.producer_version)  # the version of the builder, without a commit


@pytest.mark.parametrize("family", ["llama", "gemma3", "phi3"])
def test_a_head_is_what_stays_of_one_layer_without_it(export: Export, inputs_of: Inputs, family: str) -> None:
    model, base = export(family, HEAD)
    inputs = inputs_of(base)
    inner = model.model
    with torch.inference_mode():
        hidden = inner.norm(inner.embed_tokens(torch.from_numpy(inputs["input_ids"])))[:, -1:]
        expected = model.lm_head(hidden).numpy()
    assert [port.name for port in base.inputs] == ["input_ids"]
    assert not base.sites
    assert np.abs(run_model(base.model, inputs)[0] - expected).max() <= 1e-4


def chain(graph: str, names: Mapping[str, str]) -> onnx.ModelProto:
    """A graph whose nodes have names by their outputs."""
    model = onnx.shape_inference.infer_shapes(
        onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> {graph}')
    )
    for node in model.graph.node:
        node.name = names.get(node.output[0], "")
    return model


CHAIN = "g (float[n,4] x) => (float[n,4] y) { a = Neg(x) b = Abs(a) c = Sqrt(b) d = Mul(a, c) y = Neg(d) }"


def names(values: Any) -> list[str]:
    return [value.name for value in values]


def test_a_cut_takes_what_comes_from_outside_and_gives_what_goes_there() -> None:
    model = chain(CHAIN, {"b": "/m/part/Abs", "c": "/m/part/Sqrt", "d": "/m/Mul"})
    cut(model, "m.part")
    assert [node.op_type for node in model.graph.node] == ["Abs", "Sqrt"]
    assert (names(model.graph.input), names(model.graph.output)) == (["a"], ["c"])


def test_sizes_are_still_worked_out_in_a_cut() -> None:
    graph = "g (float[n,4] x, float[4,n] w) => (float[n,4] y) { s = Shape(x) z = Abs(w) y = Reshape(z, s) }"
    model = chain(graph, {"y": "/m/Reshape"})
    cut(model, "m")
    assert [node.op_type for node in model.graph.node] == ["Shape", "Reshape"]
    assert names(model.graph.input) == ["x", "z"]


def test_a_module_that_the_graph_lacks_cannot_be_cut_out() -> None:
    model = chain(CHAIN, {"b": "/m/Abs"})
    with pytest.raises(ProgramError, match=r"the graph names no node of 'm\.other'; it cannot be timed alone"):
        cut(model, "m.other")


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


def test_heads_that_the_runtime_does_not_rotate_are_refused(tmp_path: Path) -> None:
    model = random_model(LlamaConfig(**SMALL, num_attention_heads=4).to_dict())
    with pytest.raises(InputError, match=r"takes a head_dim that is a multiple of 16, not 8; use a torch device"):
        onnx_export.export_decoder(model, tmp_path)


def test_an_architecture_that_the_builder_does_not_know_is_named(tmp_path: Path) -> None:
    model = random_model(StableLmConfig(**SMALL, num_attention_heads=2, num_key_value_heads=2).to_dict())
    with pytest.raises(ProgramError, match=r"onnxruntime-genai does not build stablelm: "):
        onnx_export.export_decoder(model, tmp_path)
