"""Quantised weights against their closed forms, and quantised bases against torch with the same weights."""

import copy
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx_graphs import Arrays, Export, Inputs, Logits, beside, fed, mixed, sub_adapter
from torch import nn
from transformers import PreTrainedModel

from adaptare.core.quantisation import BLOCK, QUANTISATIONS
from adaptare.profiler.programs.onnx.base import TIED, OnnxBase
from adaptare.profiler.programs.onnx.export import run_model
from adaptare.profiler.programs.onnx.quantise import (
    dequantised_weights,
    quantise_base,
    rounded_weights,
)
from adaptare.profiler.programs.onnx.surgery import load_graph
from adaptare.profiler.programs.onnx.writer import write_graph

Quantised = Callable[[str, str], OnnxBase]

KINDS = ["int4", "int8"]
# Shapes (in, out): whole blocks, a part of one, less than one, and one element more than one.
SHAPES = [(64, 5), (48, 7), (20, 3), (33, 4)]
# Largest difference over the largest logit: activations are rounded to 8 bits, weights are the same. Seen: half of it.
ALLOWED = 0.03


def drawn(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(shape[0]).standard_normal(shape, dtype=np.float32)


def in_blocks(weight: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Each block of 32 inputs of an output in steps of its value farthest from zero over half the number of steps."""
    width_in, width_out = weight.shape
    half = 2 ** (bits - 1)
    rounded = np.empty_like(weight)
    for column in range(width_out):
        for start in range(0, width_in, BLOCK):
            block = weight[start : start + BLOCK, column]
            if not block.any():
                rounded[start : start + BLOCK, column] = 0
                continue
            step = -block[np.abs(block).argmax()] / np.float32(half)
            rounded[start : start + BLOCK, column] = np.clip(np.rint(block / step), -half, half - 1) * step
    return rounded


@pytest.fixture(scope="module")
def quantised(export: Export, tmp_path_factory: pytest.TempPathFactory) -> Quantised:
    """The quantised base of a family, made once."""
    made: dict[tuple[str, str], OnnxBase] = {}

    def make(family: str, kind: str) -> OnnxBase:
        if (family, kind) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{kind}")
            quantise_base(export(family)[1], folder, kind)
            made[family, kind] = OnnxBase.load(folder)
        return made[family, kind]

    return make


def originals(base: OnnxBase, names: Any) -> dict[str, NDArray[np.float32]]:
    tensors = {tensor.name: tensor for tensor in load_graph(base).graph.initializer}
    return {name: numpy_helper.to_array(tensors[name], str(base.folder)) for name in names}


@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_the_closed_form_for_each_weight_by_itself(kind: str) -> None:
    weights = {f"layer.{index}.weight": drawn(*shape) for index, shape in enumerate(SHAPES)}
    weights["layer.0.weight"][:32, 0] = 0
    together = rounded_weights(weights, kind)
    assert together.keys() == weights.keys()
    for name, weight in weights.items():
        assert np.array_equal(together[name], in_blocks(weight, QUANTISATIONS[kind].bits))


@pytest.mark.parametrize(("family", "kind"), [("llama", "int8"), ("gemma", "int4"), ("phi3", "int4")])
def test_a_quantised_base_holds_the_rounded_weights(
    export: Export, quantised: Quantised, kind: str, family: str
) -> None:
    _, base = export(family)
    found = dequantised_weights(quantised(family, kind).model)
    expected = rounded_weights(originals(base, found), kind)
    assert found.keys() >= {site.weight for site in base.sites.values()}
    assert all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_every_product_with_a_constant_is_quantised_that_of_the_head_too(quantised: Quantised, kind: str) -> None:
    graph = load_graph(quantised("llama", kind)).graph
    constants = {tensor.name for tensor in graph.initializer}
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("MatMulNBits") == 15
    assert [node.name for node in graph.node if node.op_type == "MatMul" and constants & set(node.input)] == []


@pytest.mark.parametrize(
    ("kind", "tied", "is_read"), [("int4", True, True), ("int4", False, False), ("int8", True, False)]
)
def test_an_embedding_that_is_tied_reads_the_4_bit_weights_of_the_head(
    export: Export, inputs_of: Inputs, tmp_path: Path, kind: str, tied: bool, is_read: bool
) -> None:
    """And computes what the same values in floating point do; otherwise it keeps its own."""
    place = tmp_path / "quantised"
    place.mkdir()
    quantise_base(export("gemma")[1], place, kind, tied=tied)
    plain, ours = beside(export("gemma")[1], tmp_path), OnnxBase.load(place)
    head = originals(plain, [TIED])[TIED]
    graph, weights = load_graph(ours).graph, dequantised_weights(ours.model)
    in_floats = [each.name for each in graph.initializer if np.prod(each.dims) == head.size and each.data_type == 1]
    assert in_floats == ([] if is_read else [TIED])
    assert ("GatherBlockQuantized" in {node.op_type for node in graph.node}) is is_read
    assert (TIED in weights) is is_read
    folded, inputs = plain.folder / "folded.onnx", inputs_of(plain)
    write_graph(sub_adapter(plain, {}), folded, application="merged", weights=weights)
    assert relative(run_model(ours.model, inputs)[0], run_model(folded, inputs)[0]) <= 1e-5


@pytest.mark.parametrize(("kind", "level"), [("int4", 4), ("int4-weight-only", 1)])
def test_4_bit_products_know_their_blocks_and_whether_to_round_activations(
    quantised: Quantised, kind: str, level: int
) -> None:
    nodes = [node for node in load_graph(quantised("llama", kind)).graph.node if node.op_type == "MatMulNBits"]
    found = [{attribute.name: attribute.i for attribute in node.attribute} for node in nodes]
    assert {(each["bits"], each["block_size"], each["accuracy_level"]) for each in found} == {(4, 32, level)}


def with_weights(model: PreTrainedModel, base: OnnxBase, weights: Mapping[str, NDArray[np.float32]]) -> PreTrainedModel:
    """The model in torch with other weights, given by their names in the graph; the head is the one without a site."""
    clone = copy.deepcopy(model)
    clone.lm_head.weight = nn.Parameter(clone.lm_head.weight.clone(), requires_grad=False)
    paths = {site.weight: path for path, site in base.sites.items()}
    for name, weight in weights.items():
        clone.get_submodule(paths.get(name, "lm_head")).weight.copy_(torch.from_numpy(weight.T))
    return clone


def run_as_timed(file: Path, inputs: Arrays) -> NDArray[np.float32]:
    """The first output, of the kernels that are timed: those of 4 bits round activations once weights are packed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, inputs)[0]
    return logits


def relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(
    ("family", "kind", "mode"),
    [
        ("llama", "int4", "swappable"),
        ("llama", "int8", "static"),
        ("qwen2", "int4", "static"),
        ("phi3", "int4", "padded"),
    ],
)
def test_an_adapter_beside_quantised_weights_is_that_of_torch(
    export: Export,
    quantised: Quantised,
    inputs_of: Inputs,
    torch_logits: Logits,
    family: str,
    kind: str,
    mode: str,
    tmp_path: Path,
) -> None:
    (model, base), ours = export(family), beside(quantised(family, kind), tmp_path)
    weights, adapter, inputs = dequantised_weights(ours.model), mixed(model, base), inputs_of(base)
    products = {base.sites[path].weight: A @ B for path, (A, B) in adapter.items()}
    sums = {name: weight + products.get(name, 0) for name, weight in weights.items()}
    unadapted, expected = (torch_logits(with_weights(model, base, each), inputs) for each in (weights, sums))
    file, application = tmp_path / "adapted.onnx", "static" if mode == "static" else "swappable"
    write_graph(sub_adapter(ours, adapter), file, application=application)
    more = {} if mode == "static" else fed(adapter, width=8 if mode == "padded" else 0)
    assert relative(run_as_timed(file, inputs | more), expected) <= ALLOWED
    assert relative(unadapted, expected) > 5 * ALLOWED


def test_but_for_the_rounding_of_activations_4_bits_are_exact(
    export: Export, quantised: Quantised, inputs_of: Inputs, torch_logits: Logits
) -> None:
    """Kernels whose weights are not packed keep activations in floating point."""
    (model, base), ours = export("llama"), quantised("llama", "int4")
    expected = torch_logits(with_weights(model, base, dequantised_weights(ours.model)), inputs_of(base))
    assert relative(run_model(ours.model, inputs_of(base))[0], expected) <= 1e-5


def test_the_quantisers_leave_logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while their module is imported for the first time."""
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", raising=False)
    root = logging.getLogger()
    handlers = list(root.handlers)
    monkeypatch.setattr(root, "handlers", [])
    before = (root.level, root.manager.disable)
    rounded_weights({"w": drawn(32, 2)}, "int4")
    found, root.handlers = list(root.handlers), handlers
    assert (found, root.level, root.manager.disable) == ([], *before)
