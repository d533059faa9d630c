"""Decoders of transformers as ONNX graphs with a key/value cache, by onnxruntime-genai's model builder.

One graph serves prefill and decode. It computes what the builder's own files compute, with two of the builder's
options: each linear stays a product of its own, so that it can take an adapter, and logits are of the last token only.
"""

import copy
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from adaptare.core import InputError, ProgramError
from adaptare.profiler.models.random_model import cache_argument, head_width
from adaptare.profiler.programs.onnx.base import (
    DATA,
    GENAI,
    HEAD,
    MASK,
    MODEL,
    TIED,
    OnnxBase,
    SiteTensors,
    check_head,
)
from adaptare.profiler.programs.onnx.cut import cut, end_of_block
from adaptare.profiler.programs.onnx.narrow import bypass
from adaptare.profiler.programs.onnx.packed import write_packed
from adaptare.profiler.programs.onnx.surgery import port_of, replace_entries, weight_bytes
from adaptare.profiler.programs.quiet import quiet

# Sizes at which an export is compared with torch.
CHECKED = (
    {"batch": 1, "tokens": 9, "past": 0},
    {"batch": 1, "tokens": 1, "past": 6},
    {"batch": 1, "tokens": 2, "past": 4},
    {"batch": 3, "tokens": 1, "past": 40},
    {"batch": 2, "tokens": 23, "past": 0},
)
TOLERANCE = 1e-4
# Of activations with a tanh, which ONNX Runtime approximates.
TANH, TANH_TOLERANCE = "gelu_pytorch_tanh", 1e-3
SIZES = {"batch_size": "batch", "sequence_length": "tokens", "past_sequence_length": "past"}
SIZES |= {"total_sequence_length": "past + tokens"}
PRODUCT = re.compile(r"/model/(layers\.\d+)/(attn|mlp)/(\w+_proj)/MatMul")


def export_decoder(model: PreTrainedModel, folder: Path, *, module: str = "") -> OnnxBase:
    """Exports a decoder into an empty folder: tokens, mask and cache in, logits of the last token and cache out.

    Every linear of a decoder layer is one MatMul with a weight of shape (in, out), to which an adapter can be added.

    Args:
        model: Model in evaluation mode and fp32.
        folder: Existing empty folder.
        module: Path of a decoder layer to be cut out and exported alone; or `HEAD`.

    Raises:
        InputError: The runtime does not compute attention of this head width, or the builder cannot find the head.
        ProgramError: The builder does not know the architecture, or the outputs of the graph differ from torch's.
    """
    started = time.monotonic()
    check_head(head_width(model.config))
    _check_vocabulary(model)
    graph = _built(model, folder)
    sites = _name_sites(graph.graph)
    onnx.save(graph, folder / MODEL)
    whole = OnnxBase(folder, (), sites, weight_bytes(graph), 0.0, 0.0)
    write_packed(whole)
    difference = _difference_from_torch(model, (whole.model, whole.packed))
    if not difference <= tolerance_of(model.config):
        raise ProgramError(f"the exported {model.config.model_type} differs from torch by {difference:.2g}")
    if module == HEAD:
        bypass(graph, range(model.config.num_hidden_layers))
        sites = {}
    elif module:
        end_of_block(graph.graph)
        cut(graph, module)
        sites = {path: tensors for path, tensors in sites.items() if f"{path}.".startswith(f"{module}.")}
    inputs = tuple(port_of(value) for value in graph.graph.input)
    del graph.graph.value_info[:]
    onnx.save(graph, folder / MODEL)
    elapsed_s = time.monotonic() - started
    base = OnnxBase(folder, inputs, sites, weight_bytes(graph), difference, elapsed_s)
    write_packed(base)
    base.save()
    return base


def tolerance_of(config: PreTrainedConfig) -> float:
    """Largest difference from torch's logits, relative to the largest, that is rounding of this activation."""
    activations = (getattr(config, name, None) for name in ("hidden_act", "hidden_activation"))
    return TANH_TOLERANCE if TANH in activations else TOLERANCE


def _built(model: PreTrainedModel, folder: Path) -> onnx.ModelProto:
    """Graph in a folder, as the builder makes it but for names."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    # Families whose linears are fused stay so.
    fused = str(hasattr(model.get_submodule("model.layers.0.self_attn"), "qkv_proj"))
    options = [f"fuse_qkv={fused}", f"fuse_mlp_gate_up={fused}", "prune_lm_head=True", "windowed_kv_cache=False"]
    with tempfile.TemporaryDirectory(dir=folder) as place, quiet():
        source, cache = f"{place}/source", f"{place}/cache"
        model.save_pretrained(source)
        # The builder copies a tokenizer, and models of sizes alone have none.
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel())).save_pretrained(source)
        try:
            arguments = (None, source, str(folder), "fp32", "cpu", cache)
            parsed = parse_extra_options(*arguments, options)
            _complete(parsed["hf_details"]["hf_config"])
            create_model(*arguments, **parsed)
        except NotImplementedError as error:
            raise ProgramError(f"onnxruntime-genai does not build {model.config.model_type}: {error}") from error
    for file in [file for file in folder.iterdir() if file.name not in (MODEL, DATA, GENAI)]:
        file.unlink()
    graph = onnx.load(folder / MODEL, load_external_data=False)
    del graph.metadata_props[:]
    # The builder adds the commit of the working folder, and equal models would have other bytes in another one.
    graph.producer_version = graph.producer_version.partition("+")[0]
    _name_tied_embedding(graph.graph)
    _tidy(graph.graph, head_width=head_width(model.config))
    return graph


def _check_vocabulary(model: PreTrainedModel) -> None:
    """Raises `InputError` if a linear of a layer has as many outputs as the head, which the builder knows by them."""
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    size = model.config.vocab_size
    alike = next((name for name, each in linears.items() if ".layers." in name and each.out_features == size), "")
    if alike:
        raise InputError(
            f"{alike} has as many outputs as the vocabulary has tokens, {size}, and onnxruntime-genai takes it for the "
            "head of the model; pad the vocabulary (resize_token_embeddings of transformers), or use a torch device"
        )


def _complete(config: PreTrainedConfig) -> None:
    """Fills in what the builder expects of a config: a last token, and rotary embeddings as in transformers 4."""
    if (
        getattr(config, "original_max_position_embeddings", None)
        and config.rope_parameters.get("rope_type") == "default"
    ):
        config.original_max_position_embeddings = config.max_position_embeddings
    config.eos_token_id = 0 if config.eos_token_id is None else config.eos_token_id
    if "full_attention" in config.rope_parameters:
        config.rope_local_base_freq = config.rope_parameters["sliding_attention"]["rope_theta"]
        config.rope_parameters = config.rope_parameters["full_attention"]
        config.rope_theta = config.rope_parameters["rope_theta"]


def _tidy(graph: onnx.GraphProto, *, head_width: int) -> None:
    """Names sizes as ports do, sorts the cache by layers, and leaves out empty inputs that older runtimes refuse."""
    for values in (graph.input, graph.output):
        replace_entries(values, sorted(values, key=_position))
    for value in (*graph.input, *graph.output, *graph.value_info):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param == "kv_cache_dim":
                size.dim_value = head_width
            elif size.dim_param:
                size.dim_param = SIZES.get(size.dim_param, size.dim_param)
    for node in graph.node:
        for names in (node.input, node.output):
            while names and not names[-1]:
                del names[-1]


def _name_tied_embedding(graph: onnx.GraphProto) -> None:
    """Gives the weight of the head, where the embedding is its transpose, a second name for the same place."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in weights:
            tied = copy.deepcopy(weights[node.input[0]])
            tied.name = node.input[0] = TIED
            graph.initializer.append(tied)


def _position(value: onnx.ValueInfoProto) -> tuple[int, str]:
    """Place of an input or output: tensors of the cache come last, layer by layer, keys before values."""
    numbered = re.search(r"\.(\d+)\.(\w+)", value.name)
    return (int(numbered[1]), numbered[2]) if numbered else (-1, "" if value.name == "input_ids" else value.name)


def _name_sites(graph: onnx.GraphProto) -> dict[str, SiteTensors]:
    """Names the product of each linear in a decoder layer, and its weight, by the path of its module."""
    sites, renamed = {}, {}
    for node in graph.node:
        if found := PRODUCT.fullmatch(node.name):
            path = f"model.{found[1]}.{'self_attn' if found[2] == 'attn' else 'mlp'}.{found[3]}"
            renamed[node.input[1]] = f"{path}.weight"
            node.name = path
            sites[path] = SiteTensors(node.input[0], node.output[0], f"{path}.weight")
    for initializer in graph.initializer:
        initializer.name = renamed.get(initializer.name, initializer.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return sites


def _difference_from_torch(model: PreTrainedModel, files: Sequence[Path]) -> float:
    """Largest difference of the logits of some graphs at all checked sizes, relative to the largest logit."""
    differences = list[float]()
    random = torch.Generator().manual_seed(0)
    for sizes in CHECKED:
        batch, tokens, past = sizes["batch"], sizes["tokens"], sizes["past"]
        ids = torch.randint(0, model.config.vocab_size, (batch, past + tokens), generator=random)
        with torch.inference_mode():
            expected = model(input_ids=ids, use_cache=False, logits_to_keep=1).logits.numpy()
            cache = _cache(model, ids[:, :past])
        inputs: Mapping[str, Any] = {"input_ids": ids[:, past:].numpy(), MASK: np.ones_like(ids), **cache}
        largest = max(1.0, np.max(np.abs(expected)))
        differences += [float(np.max(np.abs(run_model(file, inputs)[0] - expected)) / largest) for file in files]
    return max(differences)


def _cache(model: PreTrainedModel, ids: Tensor) -> dict[str, Any]:
    """Keys and values of a prefill by the names of inputs; each has the shape (batch, heads, positions, head)."""
    cache = DynamicCache()  # without a config every layer keeps all positions: windows are masked in the graph
    if ids.shape[1]:
        model(input_ids=ids, use_cache=True, **{cache_argument(model): cache})
        halves = [(layer.keys.numpy(), layer.values.numpy()) for layer in cache.layers]
    else:
        empty = np.zeros((len(ids), model.config.num_key_value_heads, 0, head_width(model.config)), np.float32)
        halves = [(empty, empty)] * model.config.num_hidden_layers
    named = zip(("key", "value"), zip(*halves, strict=True), strict=True)
    return {f"past_key_values.{layer}.{half}": value for half, values in named for layer, value in enumerate(values)}


def run_model(file: Path, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """Computes all outputs of a graph, without optimisation and weight prepacking."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    outputs: list[NDArray[np.float32]] = session.run(None, dict(inputs))
    return outputs
