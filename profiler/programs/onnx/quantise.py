"""Weights quantised with ONNX Runtime's tools, and the values they represent."""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from adaptare.core.quantisation import BLOCK, QUANTISATIONS
from adaptare.profiler.programs.onnx.base import GENAI, MODEL, TIED, OnnxBase
from adaptare.profiler.programs.onnx.packed import write_packed
from adaptare.profiler.programs.onnx.surgery import read_weight, weight_bytes

# Values of `accuracy_level`. Activations rounded to 8 bits per block: the fastest kernel, and the usual one on phones.
FLOAT_ACTIVATIONS, INT8_ACTIVATIONS = 1, 4


def quantise_base(base: OnnxBase, folder: Path, quantisation: str, *, tied: bool = True) -> None:
    """Writes a base with quantised weights into an empty folder; inputs and sites stay those of the original."""
    started = time.monotonic()
    quantise(onnx.load(base.model), folder / MODEL, quantisation, tied=tied)
    size = weight_bytes(onnx.load(folder / MODEL, load_external_data=False))
    if (base.folder / GENAI).exists():
        shutil.copyfile(base.folder / GENAI, folder / GENAI)
    elapsed_s = time.monotonic() - started
    quantised = replace(base, folder=folder, graph=MODEL, weight_bytes=size, export_s=base.export_s + elapsed_s)
    write_packed(quantised)
    quantised.save()


def quantise(model: onnx.ModelProto, target: Path, quantisation: str, *, block: int = BLOCK, tied: bool = True) -> None:
    """Writes a graph with quantised weights, its data in the same folder under the same name plus `.data`.

    Args:
        model: Graph with all its weights; modified.
        target: New file.
        quantisation: A name in `QUANTISATIONS`.
        block: Weights that share a scale.
        tied: An embedding that is tied to the head reads the head's 4-bit weights, as in the builder's files; otherwise
            it stays in floating point.

    Every product with a constant weight becomes a MatMulNBits with symmetric blocks of weights and one scale each, of
    4 or 8 bits. Activations are quantised dynamically if the format rounds them, also per block: with a single scale
    for all of them, as in the older dynamic quantisation, the outliers of language models dominate.
    """
    form = QUANTISATIONS[quantisation]
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with _unlogged():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantiser = MatMulNBitsQuantizer(
            model,
            bits=form.bits,
            block_size=block,
            is_symmetric=True,
            accuracy_level=INT8_ACTIVATIONS if form.rounds_activations else FLOAT_ACTIVATIONS,
        )
        quantiser.process()
        if tied:
            _tie_embedding(quantiser.model.model.graph)
        onnx.save(quantiser.model.model, target, save_as_external_data=True, location=f"{target.name}.data")
    data = target.with_name(f"{target.name}.data")
    if data.exists():  # small weights stay in the graph; onnx writes external data readable by its owner only
        data.chmod(target.stat().st_mode)


def _tie_embedding(graph: onnx.GraphProto) -> None:
    """Looks tokens up in the quantised weights of the head, if that has the weights of the embedding in 4 bits."""
    transposed = next((node for node in graph.node if node.op_type == "Transpose" and TIED in node.input), None)
    head = next((node for node in graph.node if node.op_type == "MatMulNBits" and "logits" in node.output), None)
    if transposed is None or head is None:
        return
    sizes = {attribute.name: attribute.i for attribute in head.attribute}
    width, vocabulary, block = sizes["K"], sizes["N"], sizes["block_size"]
    if sizes["bits"] != 4 or width % block:
        return
    gather = next(node for node in graph.node if node.op_type == "Gather" and node.input[0] == transposed.output[0])
    shape = numpy_helper.from_array(np.array([vocabulary, width // 2]), f"{TIED}/shape")
    graph.initializer.append(shape)
    transposed.op_type = "Reshape"
    transposed.ClearField("attribute")
    transposed.input[:] = [head.input[1], shape.name]
    gather.op_type, gather.domain = "GatherBlockQuantized", "com.microsoft"
    gather.ClearField("attribute")
    gather.input[:] = [transposed.output[0], gather.input[1], head.input[2]]
    options = {"bits": 4, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    gather.attribute.extend(helper.make_attribute(name, value) for name, value in options.items())
    graph.initializer.remove(next(tensor for tensor in graph.initializer if tensor.name == TIED))


def dequantised_weights(model: Path) -> dict[str, NDArray[np.float32]]:
    """Values represented by the quantised weights of a graph: name of the original -> shape (in, out)."""
    graph = onnx.load(model, load_external_data=False).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    weights = {}
    for node in graph.node:
        if node.op_type == "MatMulNBits":
            packed, scales = (read_weight(tensors[name], model.parent) for name in node.input[1:3])
            sizes = {attribute.name: attribute.i for attribute in node.attribute}
            weights[quantised_original(node)] = _values(packed, scales, sizes["bits"])[: sizes["K"]]
    for node in graph.node:
        if node.op_type == "GatherBlockQuantized":
            weights[TIED] = weights[quantised_original(node)]
    return weights


def rounded_weights(
    weights: Mapping[str, NDArray[np.float32]], quantisation: str, *, block: int = BLOCK
) -> dict[str, NDArray[np.float32]]:
    """Weights after quantisation and dequantisation, in floating point. Each has the shape (in, out)."""
    inputs, nodes, initializers, outputs = [], [], [], []
    for name, weight in weights.items():
        inputs.append(helper.make_tensor_value_info(f"{name}/x", TensorProto.FLOAT, [1, weight.shape[0]]))
        outputs.append(helper.make_tensor_value_info(f"{name}/y", TensorProto.FLOAT, [1, weight.shape[1]]))
        nodes.append(helper.make_node("MatMul", [f"{name}/x", name], [f"{name}/y"], name))
        initializers.append(numpy_helper.from_array(np.ascontiguousarray(weight), name))
    graph = helper.make_graph(nodes, "weights", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with tempfile.TemporaryDirectory() as place:
        quantised = Path(place) / "quantised.onnx"
        quantise(model, quantised, quantisation, block=block)
        return dequantised_weights(quantised)


def quantised_original(node: onnx.NodeProto) -> str:
    """Name of the weight whose integers a node reads."""
    return str(node.input[2]).removesuffix("_scales")


def pack_int4(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Codes 0 to 15 as stored by MatMulNBits: two per byte, low half first, the last block filled up with zero.

    Shape (out, in) -> (out, blocks, 16).
    """
    zero = 2 ** (QUANTISATIONS["int4"].bits - 1)
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % BLOCK)), constant_values=zero)
    pairs = padded.reshape(len(codes), -1, BLOCK // 2, 2)
    return np.asarray(pairs[..., 0] | (pairs[..., 1] << 4), dtype=np.uint8)


def _values(packed: NDArray[np.uint8], scales: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Values of blocks, shape (out, blocks, bytes); the middle of the range is zero. Shape (in, out)."""
    if bits == 4:  # two values per byte, low half first
        packed = np.stack([packed & 0x0F, packed >> 4], axis=-1)
    columns, blocks = packed.shape[:2]
    values = packed.reshape(columns, blocks, -1).astype(np.float32) - 2 ** (bits - 1)
    return np.ascontiguousarray((values * scales.reshape(columns, blocks, 1)).reshape(columns, -1).T)


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """Suppresses the log output of the quantisers, and removes the handler that importing one of them installs."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
