"""Products of q, k and v, which are one; its result is split where one of the three carries an adapter."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from onnx_graphs import Export, Inputs, graph_of, joined, operators
from transformers import PreTrainedModel

from adaptare.profiler import Configuration
from adaptare.profiler.programs.onnx.base import OnnxBase
from adaptare.profiler.programs.onnx.export import run_model
from adaptare.profiler.programs.onnx.packed import ATTENTION
from adaptare.profiler.programs.onnx.quantise import dequantised_weights, quantise_base
from adaptare.profiler.programs.onnx.rows import OPEN
from adaptare.profiler.programs.onnx.writer import write_graph
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter

# Families whose attention takes q, k and v as one tensor; in others, norms follow.
TAKEN_WHOLE = {"llama", "mistral", "qwen2", "gemma", "gemma2", "phi3"}
# Its q, k and v are one linear.
FUSED = "phi3"
FIRST, SECOND = ("model.layers.0.self_attn", "model.layers.1.self_attn")


def adapter(model: PreTrainedModel, *paths: str) -> dict[str, Halves]:
    linears = {path: model.get_submodule(path) for path in paths}
    return {path: Halves.random(path, 2, each.in_features, each.out_features) for path, each in linears.items()}


def of_attention(file: Path, path: str) -> list[str]:
    """Linears before attention that are products of their own."""
    names = [node.name for node in graph_of(file).node if node.op_type == "MatMul" and node.name.endswith("proj")]
    return [name.removeprefix(f"{path}.") for name in names if name.startswith(path) and "o_proj" not in name]


def test_a_packed_graph_computes_the_same_with_fewer_operators(export: Export, inputs_of: Inputs, family: str) -> None:
    _, base = export(family)
    for sizes in ({"batch": 3, "tokens": 1, "past": 5}, {"batch": 2, "tokens": 9, "past": 0}):
        inputs = inputs_of(base, **sizes)
        for ours, expected in zip(run_model(base.packed, inputs), run_model(base.model, inputs), strict=True):
            assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()
    biases = {"Add": 4} if family == "qwen2" else {}
    fewer = {} if family == FUSED else {"MatMul": 4, **biases}
    assert operators(base.model) - operators(base.packed) == fewer
    assert operators(base.packed) - operators(base.model) == ({} if family in TAKEN_WHOLE else {"Split": 2})


@pytest.mark.parametrize(
    ("application", "linear", "splits"),
    [("static", "q_proj", 1), ("swappable", "v_proj", 1), ("swappable", "o_proj", 0), ("merged", "k_proj", 0)],
)
def test_an_adapter_on_one_of_three_splits_the_result_of_its_layer_alone(
    export: Export, application: Literal["static", "swappable", "merged"], linear: str, splits: int, tmp_path: Path
) -> None:
    model, base = export("llama")
    own = SubAdapter(Configuration(), adapter(model, f"{SECOND}.{linear}"), base)
    write_graph(own, tmp_path / "new.onnx", application=application)
    assert of_attention(tmp_path / "new.onnx", FIRST) == of_attention(tmp_path / "new.onnx", SECOND) == ["qkv_proj"]
    found = [node for node in graph_of(tmp_path / "new.onnx").node if node.op_type == "Split"]
    assert len(found) == splits
    assert all("layers.1" in split.input[0] for split in found)


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


@pytest.mark.parametrize(
    ("application", "quantisation"),
    [("static", "none"), ("swappable", "int4"), ("optional", "none"), ("merged", "int4")],
)
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
        names = [tensor.name for tensor in graph.initializer]
        assert set(names) <= used
        assert len(set(names)) == len(names)


@pytest.mark.parametrize(("family", "kind"), [("llama", "int4"), ("qwen2", "int8")])
def test_quantised_weights_are_joined_as_they_are(export: Export, family: str, kind: str, tmp_path: Path) -> None:
    quantise_base(export(family)[1], tmp_path, kind)
    base = OnnxBase.load(tmp_path)
    found, expected = dequantised_weights(base.packed), joined(dequantised_weights(base.model))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)


def test_a_cut_block_is_packed(export: Export) -> None:
    assert of_attention(export("llama", "model.layers.0")[1].packed, FIRST) == ["qkv_proj"]
