"""Products of q, k and v, which are one; its result is split where one of the three carries an adapter."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from packing import joined, operators, products
from transformers import PreTrainedModel

from adaptare.profiler import Configuration
from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.programs.onnx.export import run_model
from adaptare.profiler.programs.onnx.packed import ATTENTION
from adaptare.profiler.programs.onnx.quantise import dequantised_weights, quantise_base
from adaptare.profiler.programs.onnx.rows import OPEN
from adaptare.profiler.programs.onnx.writer import write_graph, write_model
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter

Arrays = dict[str, NDArray[Any]]
Export = Callable[..., tuple[PreTrainedModel, OnnxBase]]
Inputs = Callable[..., Arrays]

# Families whose attention takes q, k and v as one tensor; in others, norms follow.
TAKEN_WHOLE = {"llama", "mistral", "qwen2", "gemma", "gemma2", "phi3"}
# Its q, k and v are one linear.
FUSED = "phi3"
FIRST, SECOND = ("model.layers.0.self_attn", "model.layers.1.self_attn")


def adapter(model: PreTrainedModel, *paths: str) -> dict[str, Halves]:
    linears = {path: model.get_submodule(path) for path in paths}
    return {path: Halves.random(path, 2, each.in_features, each.out_features) for path, each in linears.items()}


def graph_of(file: Path) -> onnx.GraphProto:
    return onnx.load(file, load_external_data=False).graph


def of_attention(file: Path, path: str) -> list[str]:
    return [name.removeprefix(f"{path}.") for name in products(file) if name.startswith(path) and "o_proj" not in name]


def test_a_packed_graph_computes_the_same(export: Export, inputs_of: Inputs, family: str) -> None:
    _, base = export(family)
    for sizes in ({"batch": 3, "tokens": 1, "past": 5}, {"batch": 2, "tokens": 9, "past": 0}):
        inputs = inputs_of(base, **sizes)
        for ours, expected in zip(run_model(base.packed, inputs), run_model(base.model, inputs), strict=True):
            assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


def test_the_result_is_split_for_the_norms_behind_it(export: Export, family: str) -> None:
    _, base = export(family)
    biases = {"Add": 4} if family == "qwen2" else {}
    fewer = {} if family == FUSED else {"MatMul": 4, **biases}
    assert operators(base.model) - operators(base.packed) == fewer
    assert operators(base.packed) - operators(base.model) == ({} if family in TAKEN_WHOLE else {"Split": 2})


@pytest.mark.parametrize("application", ["static", "swappable"])
@pytest.mark.parametrize("linear", ["q_proj", "k_proj", "v_proj"])
def test_an_adapter_on_one_of_three_splits_the_result_of_its_layer(
    export: Export, application: Literal["static", "swappable"], linear: str, tmp_path: Path
) -> None:
    model, base = export("llama")
    own = SubAdapter(Configuration(), adapter(model, f"{SECOND}.{linear}"), base)
    write_graph(own, tmp_path / "new.onnx", application=application)
    assert of_attention(tmp_path / "new.onnx", FIRST) == of_attention(tmp_path / "new.onnx", SECOND) == ["qkv_proj"]
    (split,) = (node for node in graph_of(tmp_path / "new.onnx").node if node.op_type == "Split")
    assert "layers.1" in split.input[0]


@pytest.mark.parametrize("kind", ["none", "int4"])
@pytest.mark.parametrize("linears", [["q_proj"], ["k_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj"]])
def test_adapters_on_parts_add_to_those_parts(
    export: Export, inputs_of: Inputs, family: str, linears: list[str], kind: str, tmp_path: Path
) -> None:
    """As in the graph whose products stay apart."""
    model, base = export(family)
    if family == FUSED:
        linears = ["qkv_proj"]
    if kind != "none":
        quantise_base(base, tmp_path, kind)
        base = OnnxBase.load(tmp_path)
    own = SubAdapter(Configuration(), adapter(model, *(f"{SECOND}.{linear}" for linear in linears)), base)
    files = {packs: base.folder / f"packs-{packs}.onnx" for packs in (True, False)}
    for packs, file in files.items():
        write_graph(own, file, application="static", packs=packs)
    for sizes in ({"batch": 3, "tokens": 1, "past": 5}, {"batch": 2, "tokens": 9, "past": 0}):
        inputs = inputs_of(base, **sizes)
        expected = run_model(files[False], inputs)
        for ours, other in zip(run_model(files[True], inputs), expected, strict=True):
            assert np.abs(ours - other).max() <= 1e-5 * np.abs(other).max()


@pytest.mark.parametrize("application", ["static", "swappable", "merged"])
def test_an_adapter_elsewhere_leaves_them_packed(
    export: Export, application: Literal["static", "swappable", "merged"], tmp_path: Path
) -> None:
    model, base = export("llama")
    paths = [f"{FIRST}.o_proj", *([f"{FIRST}.k_proj"] if application == "merged" else [])]
    write_graph(
        SubAdapter(Configuration(), adapter(model, *paths), base), tmp_path / "new.onnx", application=application
    )
    assert of_attention(tmp_path / "new.onnx", FIRST) == ["qkv_proj"]


def test_the_width_of_packed_attention_is_known_where_dimensions_open_again(export: Export, tmp_path: Path) -> None:
    """ONNX Runtime before 1.31 would take it for 0, and refuse the product behind attention."""
    model, base = export("llama")
    mlp = [f"model.layers.{layer}.mlp.{part}_proj" for layer in (0, 1) for part in ("gate", "up", "down")]
    paths = [*mlp, *(f"{layer}.o_proj" for layer in (FIRST, SECOND))]
    everywhere = SubAdapter(Configuration(), adapter(model, *paths), base)
    write_graph(everywhere, tmp_path / "new.onnx", application="swappable")
    graph = graph_of(tmp_path / "new.onnx")
    told = {value.name: value.type.tensor_type.shape.dim[-1].dim_value for value in graph.value_info}
    opened = [node.input[0] for node in graph.node if node.op_type == ATTENTION and node.input[0].endswith(OPEN)]
    assert opened
    config = model.config
    width = (config.num_attention_heads + 2 * config.num_key_value_heads) * model.model.layers[0].self_attn.head_dim
    assert {told[name] for name in opened} == {width}


@pytest.mark.parametrize("quantisation", ["none", "int4"])
@pytest.mark.parametrize("application", ["static", "swappable", "optional", "merged"])
def test_a_graph_has_no_weight_that_it_does_not_use(
    export: Export, application: Any, quantisation: str, tmp_path: Path
) -> None:
    model, base = export("qwen2")
    if quantisation != "none" and application != "merged":
        quantise_base(base, tmp_path, quantisation)
        base, quantisation = OnnxBase.load(tmp_path), "none"
    own = SubAdapter(Configuration(), adapter(model, f"{SECOND}.v_proj"), base)
    write_graph(own, tmp_path / "new.onnx", application=application, quantisation=quantisation)
    for file in (tmp_path / "new.onnx", base.packed, base.model):
        graph = graph_of(file)
        used = {name for node in graph.node for name in node.input}
        assert [tensor.name for tensor in graph.initializer if tensor.name not in used] == []
        names = [tensor.name for tensor in graph.initializer]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", ["int4", "int8"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_quantised_weights_are_joined_as_they_are(export: Export, family: str, kind: str, tmp_path: Path) -> None:
    quantise_base(export(family)[1], tmp_path, kind)
    base = OnnxBase.load(tmp_path)
    found, expected = dequantised_weights(base.packed), joined(dequantised_weights(base.model))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_a_written_graph_takes_packed_weights_from_the_folder_of_its_base(export: Export, tmp_path: Path) -> None:
    model, base = export("llama")
    own = SubAdapter(Configuration(), adapter(model, f"{SECOND}.q_proj"), base)
    write_graph(own, tmp_path / "new.onnx", application="swappable")
    packed = {tensor.name: tensor for tensor in graph_of(base.packed).initializer}
    tensors = graph_of(tmp_path / "new.onnx").initializer
    shared = [tensor for tensor in tensors if "qkv_proj" in tensor.name and len(tensor.dims) == 2]
    assert len(shared) == 2
    assert all(tensor == packed[tensor.name] for tensor in shared)
    assert not (tmp_path / "new.onnx.data").exists()


def test_an_export_has_each_weight_once(export: Export, tmp_path: Path) -> None:
    model, base = export("llama")
    write_model(SubAdapter(Configuration(), {}, base), tmp_path, application="merged")
    tensors = graph_of(tmp_path / "model.onnx").initializer
    assert sum(int(np.prod(tensor.dims)) for tensor in tensors if "proj" in tensor.name) == sum(
        model.get_submodule(path).weight.numel() for path in base.sites
    )


def test_a_single_linear_has_nothing_to_be_packed(export: Export) -> None:
    _, base = export("llama", f"{FIRST}.q_proj")
    assert graph_of(base.packed) == graph_of(base.model)


def test_a_cut_block_is_packed(export: Export, inputs_of: Inputs) -> None:
    _, base = export("llama", "model.layers.0")
    assert of_attention(base.packed, FIRST) == ["qkv_proj"]
    inputs: Mapping[str, Any] = inputs_of(base)
    assert np.allclose(run_model(base.packed, inputs)[0], run_model(base.model, inputs)[0], atol=1e-5)
