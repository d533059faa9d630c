"""A base model as an ONNX file: inputs of its graph, and input and output tensors of each site."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.core.lazy_names import check_installed
from adaptare.devices.agent.ort_runtime import write_adapter

MODEL, DATA, RECORD = "model.onnx", "model.onnx.data", "base.json"
# Graph without adapters, whose q, k and v are one product.
PACKED = "packed.onnx"
# Settings of onnxruntime-genai for the model.
GENAI = "genai_config.json"
# Input of the graph: 1 for every position that counts, shape (batch, past + tokens).
MASK = "attention_mask"
# Weight of the head under another name, where the embedding is tied to it.
TIED = "embedding_of_head"
# Start of the names of the cache among inputs and outputs.
PAST, PRESENT = "past_key_values.", "present."
# Embedding, last norm and logits, without the layers between them.
HEAD = "head"
# Widths of heads that GroupQueryAttention takes with rotary embeddings.
HEAD_MULTIPLE = 16


@dataclass(frozen=True)
class Port:
    """One input of a graph.

    Args:
        name: Name of the tensor.
        dtype: Numpy's name.
        shape: Sizes, or sums of `batch`, `tokens` and `past` such as `past + tokens`.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def sizes(self, **named: int) -> list[int]:
        """The shape with its symbols replaced by numbers."""
        return [size if isinstance(size, int) else _sum(size, named) for size in self.shape]


@dataclass(frozen=True)
class SiteTensors:
    """Tensors of a site (a linear that may carry an adapter) in a graph.

    Args:
        input: Input tensor of the linear, shape (..., in).
        output: Its product before any bias, shape (..., out).
        weight: Initializer of the product, shape (in, out); absent in a quantised graph.
    """

    input: str
    output: str
    weight: str


@dataclass(frozen=True)
class OnnxBase:
    """A folder with `model.onnx`, its weights in `model.onnx.data`, the same graph packed, and this record of all.

    Args:
        folder: Folder of these files; graphs with adapters are written there too, so that all share the weights.
        inputs: Inputs of the graph, in order.
        sites: Module path -> tensors, in execution order.
        weight_bytes: Size of all weights.
        difference: Largest difference of its logits from torch's at export, relative to the largest.
        export_s: Seconds that the export took.
        graph: File name of the graph; a graph with narrower layers is in the folder of the model it is cut from.
    """

    folder: Path
    inputs: tuple[Port, ...]
    sites: Mapping[str, SiteTensors]
    weight_bytes: int
    difference: float
    export_s: float
    graph: str = MODEL

    @property
    def model(self) -> Path:
        """Path of the graph to which adapters are added: each linear is a product of its own."""
        return self.folder / self.graph

    @property
    def packed(self) -> Path:
        """Path of the graph that is timed without adapters: linears of one input are one product; see `pack`."""
        return beside(self.model, PACKED)

    def save(self) -> None:
        """Writes the record."""
        content = {name: value for name, value in to_json(self).items() if name != "folder"}
        (self.folder / RECORD).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "OnnxBase":
        """Reads the record of a folder."""
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return from_json(cls, {**content, "folder": str(folder)})


def check_head(width: int) -> None:
    """Raises `InputError` if the attention of ONNX Runtime, which also rotates queries and keys, refuses this width."""
    if width % HEAD_MULTIPLE:
        raise InputError(
            f"attention in ONNX Runtime takes a head_dim that is a multiple of {HEAD_MULTIPLE}, not {width}; use a "
            "torch device for this model"
        )


def beside(graph: Path, name: str) -> Path:
    """Path of a graph derived from that of a base; several bases of one folder differ in what is cut from them."""
    return graph.with_name(name if graph.name == MODEL else f"{graph.stem}-{name}")


def adapter_inputs(path: str) -> tuple[str, str]:
    """Names of the graph inputs for A and B of a site."""
    return f"{path}.lora_A", f"{path}.lora_B"


def write_onnx_adapter(tensors: Mapping[str, NDArray[np.float32]], file: Path) -> None:
    """Writes a file for `onnxruntime.LoraAdapter`.

    Args:
        tensors: Name of an input of the graph -> its value.
        file: Target; by convention it ends in `.onnx_adapter`.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    check_installed("onnxruntime")
    write_adapter(str(file), {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()})


def _sum(terms: str, named: Mapping[str, int]) -> int:
    return sum(int(term) if term.isdigit() else named[term] for term in re.split(r"\s*\+\s*", terms))
