"""Decoders of transformers as ONNX graphs with a key/value cache, one graph for prefill and decode."""

import contextlib
import io
import logging
import re
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from adaptare.core import ProgramError
from adaptare.profiler.models.random_model import cache_argument
from adaptare.profiler.programs.onnx.base import DATA, MODEL, OnnxBase, Port, SiteTensors
from adaptare.profiler.programs.onnx.cut import cut, scopes_of
from adaptare.profiler.programs.onnx.grow import Growth, UnlikeLayersError, name_weights, turned, write_values
from adaptare.profiler.programs.onnx.session import run_model
from adaptare.profiler.programs.onnx.surgery import fold_transposes, weight_bytes

OPSET = 20
# Sizes of the traced example: none is 0 or 1, which torch would treat as constants, and no two are equal.
EXAMPLE = {"batch": 2, "tokens": 5, "past": 7}
# Sizes at which an export is compared with torch; none was traced.
CHECKED = (
    {"batch": 1, "tokens": 9, "past": 0},
    {"batch": 1, "tokens": 1, "past": 6},
    {"batch": 3, "tokens": 2, "past": 4},
)
TOLERANCE = 1e-4


def export_decoder(
    model: PreTrainedModel, folder: Path, *, module: str = "", few: PreTrainedModel | None = None
) -> OnnxBase:
    """Exports a decoder into an empty folder: `input_ids` and flat cache in, logits of the last token and cache out.

    Every linear of a decoder layer stays one MatMul with a weight of shape (in, out), so that an adapter can be added
    later. Batch, tokens and cached positions are dynamic, so one graph serves prefill and decode.

    Args:
        model: Model in evaluation mode and fp32.
        folder: Existing empty folder.
        module: Path of a decoder layer, or of one of its linears, to be cut out and exported alone.
        few: The same architecture with `grow.LAYERS` layers, whose export is extended to all layers if they are alike;
            faster, as torch takes seconds for each layer. Its weights are overwritten.

    Raises:
        ProgramError: The outputs of the graph differ from torch's.
    """
    started = time.monotonic()
    decoder = _Decoder(model)
    graph, sites, difference = _grown(decoder, few, folder) or _whole(decoder, folder)
    if not difference <= TOLERANCE:
        raise ProgramError(f"the exported {model.config.model_type} differs from torch by {difference:.2g}")
    if module:
        cut(graph, decoder.prefix + module)
        sites = {path: tensors for path, tensors in sites.items() if f"{path}.".startswith(f"{module}.")}
    inputs = tuple(port_of(value) for value in graph.graph.input)
    _forget_origins(graph)
    onnx.save(graph, folder / MODEL)
    base = OnnxBase(folder, inputs, sites, weight_bytes(graph), difference, time.monotonic() - started)
    base.save()
    return base


Exported = tuple[onnx.ModelProto, dict[str, SiteTensors], float]
"""Graph, sites, and difference from torch."""


def _whole(decoder: "_Decoder", folder: Path) -> Exported:
    graph = _traced(decoder, folder)
    sites = _name_sites(graph, decoder.prefix)
    onnx.save(graph, folder / MODEL)
    return graph, sites, _difference_from_torch(decoder, folder / MODEL)


def _grown(decoder: "_Decoder", few: PreTrainedModel | None, folder: Path) -> Exported | None:
    """The export of `few` with the layers and weights of the decoder; `None` if that is not the same model."""
    if few is None:
        return None
    random = torch.Generator().manual_seed(0)
    for weight in few.parameters():  # equal weights would become one constant
        weight.data.copy_(torch.rand(weight.shape, generator=random))
    with tempfile.TemporaryDirectory(dir=folder) as place:
        exported = _Decoder(few)
        graph = _traced(exported, Path(place))
        name_weights(graph, exported.weights(), Path(place))
        sites = _name_sites(graph, decoder.prefix)
        try:
            sites = Growth(graph, decoder.layers).apply(sites)
            write_values(graph, _values(decoder, sites), Path(place), folder / DATA)
        except UnlikeLayersError:
            return None
        onnx.save(graph, folder / MODEL)
    difference = _difference_from_torch(decoder, folder / MODEL)
    return (graph, sites, difference) if difference <= TOLERANCE else None


def _traced(decoder: "_Decoder", folder: Path) -> onnx.ModelProto:
    """Graph in a folder, as torch exports it but for transposes of weights."""
    dynamic = torch.export.Dim.DYNAMIC
    cached = tuple({0: dynamic, 2: dynamic} for _ in decoder.cache_sizes)
    free = ({0: dynamic, 1: dynamic}, *([cached] if cached else []))
    outputs = ["logits", *decoder.cache_names("present")]
    with _quiet():
        exported = torch.onnx.export(
            decoder,
            tuple(decoder.example(**EXAMPLE)),
            input_names=decoder.input_names,
            output_names=outputs,
            dynamic_shapes=free,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        if exported is None:
            raise ProgramError(f"torch does not export {decoder.model.config.model_type}")
        exported.save(folder / MODEL, external_data=True)
    graph = onnx.load(folder / MODEL, load_external_data=False)
    fold_transposes(graph, folder / DATA)
    _name_sizes(graph.graph)
    return graph


def _values(decoder: "_Decoder", sites: Mapping[str, SiteTensors]) -> dict[str, NDArray[np.float32]]:
    """Weights of a decoder by the names of initializers: as `name_weights` gives them, and those of sites."""
    values = decoder.weights()
    of_sites = {tensors.weight: values[f"{decoder.prefix}{path}.weight"].T for path, tensors in sites.items()}
    return {**values, **{turned(name): value.T for name, value in values.items()}, **of_sites}


class _Decoder(nn.Module):
    """Flat tensors as inputs and outputs, as required by an ONNX graph."""

    prefix = "model."

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self.eval()
        config = model.config
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        self.layers = config.num_hidden_layers
        self.cache_sizes = [(kv_heads, head)] * (2 * self.layers)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """Every parameter by its name; tied ones have several."""
        return {name: tensor.numpy() for name, tensor in self.state_dict().items()}

    def cache_names(self, prefix: str) -> list[str]:
        """Names of the cache's tensors, in order."""
        return [f"{prefix}.{layer}.{half}" for layer in range(self.layers) for half in ("key", "value")]

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs, in order."""
        return ["input_ids", *self.cache_names("past")]

    def forward(self, input_ids: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        """Logits of the last token, shape (batch, 1, vocabulary), and the grown cache."""
        # Without a config every layer keeps all positions; sliding windows are masked, not truncated.
        cache = DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        arguments = {"input_ids": input_ids, "use_cache": True, "logits_to_keep": 1}
        logits = self.model(**arguments, **{cache_argument(self.model): cache}).logits
        return (logits, *(half for layer in cache.layers for half in (layer.keys, layer.values)))

    def example(self, *, batch: int, tokens: int, past: int) -> list[Tensor]:
        """Random inputs of these sizes."""
        random = torch.Generator().manual_seed(0)
        ids = torch.randint(0, self.model.config.vocab_size, (batch, tokens), generator=random)
        return [ids, *(torch.randn(batch, kv, past, head, generator=random) for kv, head in self.cache_sizes)]


def _name_sites(model: onnx.ModelProto, prefix: str) -> dict[str, SiteTensors]:
    """Locates the product of every linear in a decoder layer by its module of origin, and names its weight after it."""
    constants = {initializer.name for initializer in model.graph.initializer}
    sites, renamed = {}, {}
    for node in model.graph.node:
        if node.op_type != "MatMul" or node.input[1] not in constants:
            continue
        path = next((scope for scope in reversed(scopes_of(node)) if ".layers." in scope), "").removeprefix(prefix)
        if not path:
            continue
        node.name = path
        renamed[node.input[1]] = f"{path}.weight"
        sites[path] = SiteTensors(node.input[0], node.output[0], f"{path}.weight")
    for initializer in model.graph.initializer:
        initializer.name = renamed.get(initializer.name, initializer.name)
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return sites


def _forget_origins(model: onnx.ModelProto) -> None:
    """Removes the origin of nodes, and the types of intermediate tensors, which runtimes infer."""
    graph = model.graph
    for noted in (graph, *graph.node, *graph.input, *graph.output):
        del noted.metadata_props[:]
    del graph.value_info[:]


def _name_sizes(graph: onnx.GraphProto) -> None:
    """Names the dynamic sizes `batch`, `tokens` and `past`, replacing torch's symbols for them."""
    names = {graph.input[0].type.tensor_type.shape.dim[0].dim_param: "batch"}
    names[graph.input[0].type.tensor_type.shape.dim[1].dim_param] = "tokens"
    names.update({port.type.tensor_type.shape.dim[2].dim_param: "past" for port in graph.input[1:]})
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), size.dim_param)


def port_of(value: onnx.ValueInfoProto) -> Port:
    """Name, type and shape of a tensor that the graph declares."""
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Port(value.name, dtype, tuple(size.dim_param or size.dim_value for size in tensor.shape.dim))


def _difference_from_torch(decoder: _Decoder, file: Path) -> float:
    differences = []
    for sizes in CHECKED:
        with torch.inference_mode():
            example = decoder.example(**sizes)
            if sizes["past"]:
                # A cache that the model computed: a random one would amplify rounding errors.
                example[1:] = decoder(*decoder.example(batch=sizes["batch"], tokens=sizes["past"], past=0))[1:]
            expected = decoder(*example)[0].numpy()
        inputs: Mapping[str, Any] = {
            name: tensor.numpy() for name, tensor in zip(decoder.input_names, example, strict=True)
        }
        ours = run_model(file, inputs)[0]
        differences.append(float(np.max(np.abs(ours - expected)) / max(1.0, np.max(np.abs(expected)))))
    return max(differences)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the warnings and log output of the exporter."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
