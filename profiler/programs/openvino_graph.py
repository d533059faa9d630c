"""Decoders of transformers as stateful graphs of OpenVINO, with the inputs and states that optimum-intel gives them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from adaptare.core import ProgramError
from adaptare.core.quantisation import BLOCK
from adaptare.devices.agent.openvino_runtime import last_logits
from adaptare.profiler.models.random_model import cache_argument, head_width
from adaptare.profiler.programs.quiet import quiet

if TYPE_CHECKING:
    import openvino

INPUTS = ("input_ids", "attention_mask", "position_ids")
ORDER = "beam_idx"
# Tokens with which a graph is compared with torch, the last one with a cache; and the largest difference of logits over
# the largest.
CHECKED, TOLERANCE = 24, 1e-4
# Of integer weights, by kind.
BITS = {"int8": 8, "int4": 4}
# Attribute of the traced module, which names would otherwise have.
DECODER = "decoder"


def write_openvino_graph(model: PreTrainedModel, file: Path, kind: str) -> None:
    """Writes a decoder, its weights beside it.

    Args:
        model: See `openvino_graph`.
        file: The new graph, an `.xml`.
        kind: Data type of the weights: `float32`, `float16`, or `int8` or `int4`, which leave norms and biases alone.

    Raises:
        ProgramError: OpenVINO does not convert the model, or the graph computes something else than torch.
    """
    import openvino

    graph = openvino_graph(model)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, CHECKED).tolist()
    with torch.inference_mode():
        expected = model(torch.tensor([ids]), logits_to_keep=2).logits[0].numpy()
    difference = float(np.max(np.abs(last_logits(graph, ids, {}) - expected)) / max(1.0, np.max(np.abs(expected))))
    if not difference <= TOLERANCE:
        raise ProgramError(f"the converted {model.config.model_type} differs from torch by {difference:.2g}")
    if kind in BITS:
        quantise(graph, bits=BITS[kind])
    openvino.save_model(graph, file, compress_to_fp16=kind == "float16")


def quantise(graph: "openvino.Model", *, bits: int) -> None:
    """Replaces the weights of linears, embedding and head by integers and scales, as NNCF writes them.

    Integers of 8 bits have one scale for each output, and those of 4 bits one for each 32 weights of an output where
    rows have whole blocks. Embedding and head have 8 bits.
    """
    for node in graph.get_ordered_ops():
        kind, name = node.get_type_name(), node.get_friendly_name()
        port = {"MatMul": 1, "Gather": 0}.get(kind, 0)
        weight = node.input_value(port).get_node() if kind in ("MatMul", "Gather") else None
        if weight is None or weight.get_type_name() != "Constant" or len(weight.get_output_shape(0)) != 2:
            continue
        small = bits == 4 and ".layers." in name and weight.get_output_shape(0)[1] % BLOCK == 0
        integers = _integers(weight.data, 4 if small else 8, BLOCK if small else weight.get_output_shape(0)[1])
        for reader in weight.output(0).get_target_inputs():
            reader.replace_source_output(integers.output(0))


def _integers(values: NDArray[np.float32], bits: int, block: int) -> "openvino.Node":
    """Integers times scales; the largest weight of a block is the lowest integer, as in ONNX Runtime's quantiser."""
    from openvino import Type
    from openvino import opset13 as opset

    blocks = values.reshape(len(values), -1, block)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(2, keepdims=True), 2)
    lowest = -(2 ** (bits - 1))
    scales = np.where(largest == 0, 1, largest / lowest).astype(np.float16)
    codes = np.clip(np.rint(blocks / scales.astype(np.float32)), lowest, -lowest - 1).astype(np.int8)
    stored = opset.constant(codes, Type.i4 if bits == 4 else Type.i8)
    scaled = opset.multiply(opset.convert(stored, "f16"), opset.constant(scales))
    return opset.convert(opset.reshape(scaled, opset.constant(np.array(values.shape)), False), "f32")


def openvino_graph(model: PreTrainedModel) -> "openvino.Model":
    """Converts a decoder: tokens, mask, positions and `beam_idx` in, logits of the last token out, cache in states.

    The name of the product of each linear starts with `__module.` and the path of its module.

    Args:
        model: Model in evaluation mode and fp32.

    Raises:
        ProgramError: OpenVINO has no conversion of an operator.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    config = model.config
    heads, width = config.num_key_value_heads, head_width(config)
    past = [torch.zeros(2, heads, 3, width) for _ in range(2 * config.num_hidden_layers)]
    ones = torch.ones(2, 5, dtype=torch.long)
    with quiet(), torch.no_grad():
        decoder = TorchScriptPythonDecoder(
            _Traced(model), example_input=(ones[:, 3:], ones, torch.tensor([[3, 4]] * 2), *past)
        )
        # As `openvino.convert_model` does, without its telemetry.
        frontend = FrontEndManager().load_by_framework("pytorch")
        try:
            graph = frontend.convert(frontend.load(decoder))
        except Exception as error:  # the library's own exceptions, which have no common type
            reason = str(error).strip().splitlines()[-1].lstrip("- ")
            raise ProgramError(f"openvino does not convert {config.model_type}: {reason}") from error
    caches = [f"{half}.{layer}" for layer in range(config.num_hidden_layers) for half in ("key", "value")]
    _name(graph, caches, heads, width)
    _keep_in_states(graph, caches)
    return graph


class _Traced(nn.Module):
    """A decoder whose cache is a list of keys and values."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.decoder = model

    def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        cache = DynamicCache()
        cache.layers = [_layer(*halves) for halves in zip(past[::2], past[1::2], strict=True)]
        given: dict[str, Any] = {cache_argument(self.decoder): cache, "use_cache": True, "logits_to_keep": 1}
        logits = self.decoder(input_ids=ids, attention_mask=mask, position_ids=positions, **given).logits
        return (logits, *(half for layer in cache.layers for half in (layer.keys, layer.values)))


def _layer(keys: Tensor, values: Tensor) -> DynamicLayer:
    layer = DynamicLayer()
    layer.keys, layer.values, layer.is_initialized = keys, values, True
    layer.dtype, layer.device = keys.dtype, keys.device
    return layer


def _name(graph: "openvino.Model", caches: list[str], heads: int, width: int) -> None:
    """Names inputs, outputs and products, and frees their sizes."""
    from openvino import PartialShape

    names = [*INPUTS, *(f"past_key_values.{name}" for name in caches)]
    for port, name in zip(graph.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        shape = [-1, -1] if name in INPUTS else [-1, heads, -1, width]
        port.get_node().set_partial_shape(PartialShape(shape))
    for port, name in zip(graph.outputs, ["logits", *(f"present.{name}" for name in caches)], strict=True):
        port.get_tensor().set_names({name})
    for node in graph.get_ops():
        node.set_friendly_name(node.get_friendly_name().replace(f"__module.{DECODER}.", "__module."))
    graph.validate_nodes_and_infer_types()


def _keep_in_states(graph: "openvino.Model", caches: list[str]) -> None:
    """Turns the cache into states, which start empty, in the order of beams that an input gives."""
    from openvino import opset13 as opset
    from openvino._offline_transformations import apply_make_stateful_transformation

    order = opset.parameter([-1], np.int32, name=ORDER)
    order.output(0).get_tensor().set_names({ORDER})
    graph.add_parameters([order])
    for name in caches:
        port = graph.input(f"past_key_values.{name}")
        readers = port.get_target_inputs()
        ordered = opset.gather(port, order, opset.constant(0))
        for reader in readers:
            reader.replace_source_output(ordered.output(0))
    graph.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(graph, {f"past_key_values.{name}": f"present.{name}" for name in caches})
    batch = opset.gather(opset.shape_of(graph.input(INPUTS[0])), opset.constant([0]), opset.constant(0))
    for node in graph.get_ops():
        if node.get_type_name() == "ReadValue":
            shape = node.get_output_partial_shape(0)
            sizes = [opset.constant(np.array([shape[axis].min_length])) for axis in (1, 2, 3)]
            node.set_arguments([opset.broadcast(opset.constant(np.float32(0)), opset.concat([batch, *sizes], 0))])
    graph.validate_nodes_and_infer_types()
