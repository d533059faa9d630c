"""Quantised weights against their closed forms, and quantised bases against torch with the same weights."""

import copy
import logging
import subprocess
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
from packing import joined
from torch import nn
from transformers import PreTrainedModel

from adaptare.core.quantisation import BLOCK, QUANTISATIONS
from adaptare.profiler import Configuration
from adaptare.profiler.programs.onnx.adapters import RowHalves
from adaptare.profiler.programs.onnx.base import TIED, OnnxBase, adapter_inputs
from adaptare.profiler.programs.onnx.export import run_model
from adaptare.profiler.programs.onnx.quantise import (
    dequantised_weights,
    quantise_base,
    rounded_weights,
)
from adaptare.profiler.programs.onnx.surgery import load_graph
from adaptare.profiler.programs.onnx.writer import write_graph
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter

Adapter = dict[str, RowHalves]
Arrays = dict[str, NDArray[Any]]
Export = Callable[..., tuple[PreTrainedModel, OnnxBase]]
Inputs = Callable[..., Arrays]
Logits = Callable[[PreTrainedModel, Mapping[str, NDArray[Any]]], NDArray[np.float32]]
Quantised = Callable[[str, str], OnnxBase]

KINDS = ["int4", "int8"]
# Shapes (in, out): whole blocks, a part of one, less than one, and one element more than one.
SHAPES = [(64, 5), (48, 7), (20, 3), (33, 4)]
# Largest difference over the largest logit: activations are rounded to 8 bits, weights are the same. Seen: half of it.
ALLOWED = {"int4": 0.03, "int8": 0.03}


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


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rounding_is_the_closed_form(kind: str, shape: tuple[int, int]) -> None:
    weight = drawn(*shape)
    assert np.array_equal(rounded_weights({"w": weight}, kind)["w"], in_blocks(weight, QUANTISATIONS[kind].bits))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_rounding_again_changes_nothing(kind: str, shape: tuple[int, int]) -> None:
    once = rounded_weights({"w": drawn(*shape)}, kind)
    assert np.abs(rounded_weights(once, kind)["w"] - once["w"]).max() <= 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(kind: str) -> None:
    weight = drawn(64, 3)
    weight[:32, 0], weight[:, 1] = 0, 0
    rounded = rounded_weights({"w": weight}, kind)["w"]
    assert not rounded[weight == 0].any()


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_several_shapes_are_rounded_each_by_itself(kind: str) -> None:
    weights = {f"layer.{index}.weight": drawn(*shape) for index, shape in enumerate(SHAPES)}
    together = rounded_weights(weights, kind)
    assert together.keys() == weights.keys()
    for name, weight in weights.items():
        assert np.array_equal(together[name], rounded_weights({"w": weight}, kind)["w"])


@pytest.mark.parametrize("family", ["llama", "gemma", "phi3"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_base_holds_the_rounded_weights(
    export: Export, quantised: Quantised, kind: str, family: str
) -> None:
    _, base = export(family)
    found = dequantised_weights(quantised(family, kind).model)
    expected = rounded_weights(originals(base, found), kind)
    assert found.keys() >= {site.weight for site in base.sites.values()}
    assert all(np.array_equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_quantised_besides_the_linears(export: Export, quantised: Quantised, kind: str) -> None:
    _, base = export("llama")
    found = dequantised_weights(quantised("llama", kind).model)
    assert sorted(found[name].shape for name in set(found) - {site.weight for site in base.sites.values()}) == [
        (32, 72)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_product_with_a_constant_is_quantised(quantised: Quantised, kind: str) -> None:
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
    write_graph(SubAdapter(Configuration(), {}, plain), folded, application="merged", weights=weights)
    assert relative(run_model(ours.model, inputs)[0], run_model(folded, inputs)[0]) <= 1e-5


@pytest.mark.parametrize(("kind", "level"), [("int4", 4), ("int4-weight-only", 1)])
def test_4_bit_products_know_their_blocks_and_whether_to_round_activations(
    quantised: Quantised, kind: str, level: int
) -> None:
    nodes = [node for node in load_graph(quantised("llama", kind)).graph.node if node.op_type == "MatMulNBits"]
    found = [{attribute.name: attribute.i for attribute in node.attribute} for node in nodes]
    assert {(each["bits"], each["block_size"], each["accuracy_level"]) for each in found} == {(4, 32, level)}


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_sites_are_those_of_the_original(export: Export, quantised: Quantised, kind: str) -> None:
    (_, base), ours = export("llama"), quantised("llama", kind)
    assert (ours.inputs, ours.sites, ours.difference) == (base.inputs, base.sites, base.difference)
    rotary = 2 * 4 * 2048 * 8
    assert ours.weight_bytes - rotary < (base.weight_bytes - rotary) / 2
    assert ours.export_s > base.export_s


def with_weights(model: PreTrainedModel, base: OnnxBase, weights: Mapping[str, NDArray[np.float32]]) -> PreTrainedModel:
    """The model in torch with other weights, given by their names in the graph; the head is the one without a site."""
    clone = copy.deepcopy(model)
    clone.lm_head.weight = nn.Parameter(clone.lm_head.weight.clone(), requires_grad=False)
    paths = {site.weight: path for path, site in base.sites.items()}
    for name, weight in weights.items():
        clone.get_submodule(paths.get(name, "lm_head")).weight.copy_(torch.from_numpy(weight.T))
    return clone


def adapter_of(base: OnnxBase, model: PreTrainedModel) -> Adapter:
    """Ranks of 1 to 5 on two sites of three."""
    rng = np.random.default_rng(4)
    found = {}
    for index, path in enumerate(base.sites):
        linear = model.get_submodule(path)
        A = rng.standard_normal((linear.in_features, 1 + index % 5)) * linear.in_features**-0.5
        B = 0.3 * rng.standard_normal((1 + index % 5, linear.out_features))
        found[path] = (A.astype(np.float32), B.astype(np.float32))
    return {path: halves for index, (path, halves) in enumerate(found.items()) if index % 3}


def run_as_timed(file: Path, inputs: Arrays) -> NDArray[np.float32]:
    """The first output, of the kernels that are timed: those of 4 bits round activations once weights are packed."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, inputs)[0]
    return logits


def beside(base: OnnxBase, folder: Path) -> OnnxBase:
    """The same base in another folder, where graphs may be written."""
    for file in base.folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return OnnxBase.load(folder)


def sub_adapter(base: OnnxBase, adapter: Adapter) -> SubAdapter[OnnxBase]:
    return SubAdapter(Configuration(), {path: Halves(A.T, B.T) for path, (A, B) in adapter.items()}, base)


def written(base: OnnxBase, adapter: Adapter, mode: str, folder: Path) -> tuple[Path, Arrays]:
    """The graph of a quantised base with an adapter, and what it is fed with besides the inputs of the base."""
    application: Any = "static" if mode == "static" else "swappable"
    write_graph(sub_adapter(beside(base, folder), adapter), folder / "adapted.onnx", application=application)
    inputs = {}
    for path, (A, B) in adapter.items() if mode != "static" else ():
        zeros = 5 - A.shape[1] if mode == "padded" else 0
        padded = np.pad(A, ((0, 0), (0, zeros))), np.pad(B, ((0, zeros), (0, 0)))
        inputs.update(zip(adapter_inputs(path), padded, strict=True))
    return folder / "adapted.onnx", inputs


def sums(base: OnnxBase, weights: Arrays, adapter: Adapter) -> Arrays:
    """Weights by their names, A B added to those of adapted sites."""
    products = {base.sites[path].weight: A @ B for path, (A, B) in adapter.items()}
    return {name: weight + products.get(name, 0) for name, weight in weights.items()}


def relative(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("mode", ["static", "swappable", "padded"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "phi3"])
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
    (model, base), ours = export(family), quantised(family, kind)
    weights, adapter, inputs = dequantised_weights(ours.model), adapter_of(base, model), inputs_of(base)
    unadapted = torch_logits(with_weights(model, base, weights), inputs)
    expected = torch_logits(with_weights(model, base, sums(base, weights, adapter)), inputs)
    file, more = written(ours, adapter, mode, tmp_path)
    assert relative(run_as_timed(file, inputs | more), expected) <= ALLOWED[kind]
    assert relative(unadapted, expected) > 5 * ALLOWED[kind]


def test_but_for_the_rounding_of_activations_4_bits_are_exact(
    export: Export, quantised: Quantised, inputs_of: Inputs, torch_logits: Logits
) -> None:
    """Kernels whose weights are not packed keep activations in floating point."""
    (model, base), ours = export("llama"), quantised("llama", "int4")
    expected = torch_logits(with_weights(model, base, dequantised_weights(ours.model)), inputs_of(base))
    assert relative(run_model(ours.model, inputs_of(base))[0], expected) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_requantised_weights_are_the_rounded_sums(export: Export, kind: str, tmp_path: Path) -> None:
    model, base = export("llama")
    adapter = adapter_of(base, model)
    file = tmp_path / "requantised.onnx"
    write_graph(sub_adapter(base, adapter), file, application="merged", quantisation=kind)
    found = dequantised_weights(file)
    names = {site.weight for site in base.sites.values()}
    expected = joined(rounded_weights(sums(base, originals(base, names), adapter), kind))
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_quantisers_leave_logging_as_it_was(kind: str) -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level, root.manager.disable)
    rounded_weights({"w": drawn(32, 2)}, kind)
    assert (root.handlers, root.level, root.manager.disable) == before


def test_importing_a_quantiser_for_the_first_time_leaves_logging_as_it_was() -> None:
    """In a process of its own, because the second import of a module does nothing."""
    code = (
        "import logging, numpy\n"
        "from adaptare.profiler.programs.onnx.quantise import rounded_weights\n"
        "for kind in ('int4', 'int8'):\n"
        "    rounded_weights({'w': numpy.ones((32, 2), 'f')}, kind)\n"
        "root = logging.getLogger()\n"
        "print(root.handlers, root.level, root.manager.disable)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "30", "0"]
    assert done.stderr == ""
