"""Graph of a deep decoder, grown from the exported graph of one with three layers: layers are alike but for names.

Exporting takes torch seconds for each layer; copying nodes takes none. The result is compared with torch like any other
export, so nothing rests on the copies being right.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from adaptare.profiler.programs.onnx.base import SiteTensors
from adaptare.profiler.programs.onnx.surgery import append_weight, read_weight

# The first layer may compute what all share, and the last feeds the head: the second one is copied.
LAYERS = 3
# Constants with more values must be weights of the model.
MOST_VALUES = 2**16
FIRST_CACHE = "past.0.key"
NUMBERED = re.compile(r"\b(layers|past|present)\.(\d+)\.")

Message = TypeVar("Message", onnx.NodeProto, onnx.ValueInfoProto, onnx.TensorProto)


class UnlikeLayersError(Exception):
    """The layers of a graph are not copies of each other."""


class Growth:
    """Copies of the second of three layers, in front of the third.

    Args:
        model: Exported from a model of `LAYERS` layers.
        layers: Total number of layers, more than `LAYERS`.

    Raises:
        UnlikeLayersError: The second and the third layer differ in more than names.
    """

    def __init__(self, model: onnx.ModelProto, layers: int) -> None:
        self._graph, self._layers = model.graph, layers
        _share_sizes(model.graph)
        self._nodes = _by_layer(model.graph)
        self._copied = {name for node in self._nodes[1] for name in node.output}
        self._links = _links(model.graph, self._nodes[1], self._nodes[2])

    def apply(self, sites: Mapping[str, SiteTensors]) -> dict[str, SiteTensors]:
        """Modifies the graph, whose new weights have no values yet. Returns all sites, in execution order."""
        graph, nodes = self._graph, [self._node(node, layer) for layer, part in self._parts() for node in part]
        del graph.node[:]
        graph.node.extend(nodes)
        for field in (graph.input, graph.output, graph.initializer):
            of_layer = [
                [_duplicate(entry) for entry in field if _layer(entry.name) == layer] for layer in range(LAYERS)
            ]
            del field[:]
            for layer in range(self._layers):
                for entry in of_layer[self._source(layer)]:
                    entry.name, before = self._name(entry.name, layer), entry.name
                    field.append(entry)
                    entry.name = before
        every = {}
        for layer in range(self._layers):
            for path, tensors in sites.items():
                if _layer(path) == self._source(layer):
                    names = (tensors.input, tensors.output, tensors.weight)
                    every[self._name(path, layer)] = SiteTensors(*(self._name(name, layer) for name in names))
        return every

    def _source(self, layer: int) -> int:
        """The exported layer that a layer is made from."""
        return LAYERS - 1 if layer == self._layers - 1 else min(layer, 1)

    def _parts(self) -> Iterator[tuple[int, Sequence[onnx.NodeProto]]]:
        return ((layer, self._nodes[self._source(layer)]) for layer in range(self._layers))

    def _node(self, node: onnx.NodeProto, layer: int) -> onnx.NodeProto:
        made = _duplicate(node)
        made.input[:] = [self._input(name, layer) for name in node.input]
        made.output[:] = [self._name(name, layer) for name in node.output]
        made.name = self._name(node.name, layer)
        if made.name == node.name and self._is_copy(layer):
            made.name = f"{node.name}@{layer}"
        return made

    def _is_copy(self, layer: int) -> bool:
        return 1 < layer < self._layers - 1

    def _input(self, name: str, layer: int) -> str:
        """Name of an input of a node: a tensor of its layer, of the layer before, or one that all share."""
        if self._is_copy(layer) and name in self._links:
            return self._name(self._links[name], layer - 1)
        return self._name(name, layer - 1 if layer == self._layers - 1 and name in self._copied else layer)

    def _name(self, name: str, layer: int) -> str:
        """Name of the tensor in a layer that has this name in the exported layer; shared tensors keep theirs."""
        numbered = NUMBERED.search(name)
        if numbered and int(numbered[2]) == self._source(layer):
            return f"{name[: numbered.start(2)]}{layer}{name[numbered.end(2) :]}"
        return f"{name}@{layer}" if self._is_copy(layer) and name in self._copied else name


def turned(name: str) -> str:
    """Name of the transpose of a weight."""
    return f"{name}/T"


def name_weights(model: onnx.ModelProto, weights: Mapping[str, NDArray[np.float32]], folder: Path) -> None:
    """Names initializers after the weights, or transposes of weights, that they are equal to.

    Args:
        model: Modified in place.
        weights: Name -> value; unequal values have unequal names.
        folder: Folder with the data of the initializers.
    """
    known = {_digest(value.T): turned(name) for name, value in weights.items()}
    known |= {_digest(value): name for name, value in weights.items()}
    renamed = {}
    for tensor in model.graph.initializer:
        if (name := known.get(_digest(read_weight(tensor, folder)))) is not None:
            renamed[tensor.name] = tensor.name = name
    for node in model.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def write_values(model: onnx.ModelProto, values: Mapping[str, NDArray[np.float32]], exported: Path, data: Path) -> None:
    """Gives every weight its value, in a new data file; small constants move into the graph.

    Args:
        model: Modified in place.
        values: Name of an initializer -> its value.
        exported: Folder with the data of the constants that are no weights.
        data: The new file, in the folder of the graph.

    Raises:
        UnlikeLayersError: A large constant is no weight of the model.
    """
    with data.open("wb") as file:
        for tensor in model.graph.initializer:
            if tensor.name in values:
                append_weight(tensor, values[tensor.name], file, data.name)
            elif math.prod(tensor.dims) > MOST_VALUES:
                raise UnlikeLayersError(f"{tensor.name} is no weight of the model")
            else:
                tensor.CopyFrom(numpy_helper.from_array(read_weight(tensor, exported), tensor.name))


def _share_sizes(graph: onnx.GraphProto) -> None:
    """Computes each size once: the caches of all layers are alike, and torch asks now this one, now that one."""
    outputs, known, renamed = {output.name for output in graph.output}, dict[bytes, str](), dict[str, str]()
    nodes = []
    for node in graph.node:
        made = _duplicate(node)
        made.input[:] = [renamed.get(name, name) for name in node.input]
        if node.op_type == "Shape" and NUMBERED.search(node.input[0]):
            made.input[0] = FIRST_CACHE
        content = onnx.NodeProto(op_type=made.op_type, input=made.input, attribute=made.attribute)
        key = content.SerializeToString(deterministic=True)
        if len(made.output) == 1 and made.output[0] not in outputs:
            renamed[made.output[0]] = known.setdefault(key, made.output[0])
            if renamed[made.output[0]] != made.output[0]:
                continue
        nodes.append(made)
    del graph.node[:]
    graph.node.extend(nodes)


def _by_layer(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto], list[onnx.NodeProto]]:
    """Nodes by the last layer that their inputs depend on; the head belongs to the third."""
    depends = {tensor.name: _layer(tensor.name) for tensor in (*graph.input, *graph.initializer)}
    parts: tuple[list[onnx.NodeProto], list[onnx.NodeProto], list[onnx.NodeProto]] = ([], [], [])
    for node in graph.node:
        layer = max((depends[name] for name in node.input if name), default=0)
        depends.update(dict.fromkeys(node.output, layer))
        parts[layer].append(node)
    return parts


def _links(
    graph: onnx.GraphProto, second: Sequence[onnx.NodeProto], third: Sequence[onnx.NodeProto]
) -> Mapping[str, str]:
    """Tensor that the second layer takes from the first -> the one that the third takes from the second in its place.

    Raises:
        UnlikeLayersError: The layers differ in more than names.
    """
    given = {tensor.name for tensor in (*graph.input, *graph.initializer)}
    own = {name for node in second for name in node.output}
    counterpart: dict[str, str] = {}
    links: dict[str, str] = {}
    if len(third) < len(second):
        raise UnlikeLayersError("the third layer has fewer nodes than the second")
    for node, other in zip(second, third, strict=False):
        same = node.op_type == other.op_type and list(node.attribute) == list(other.attribute)
        if not (same and len(node.input) == len(other.input) and len(node.output) == len(other.output)):
            raise UnlikeLayersError(f"{node.name} and {other.name} differ")
        for mine, theirs in zip(node.input, other.input, strict=True):
            if mine in own:
                same = counterpart[mine] == theirs
            elif theirs in own:
                same = mine not in given and links.setdefault(mine, theirs) == theirs
            elif _layer(mine) == 1 and mine in given:
                same = theirs == mine.replace(".1.", ".2.", 1)
            else:
                same = mine == theirs
            if not same:
                raise UnlikeLayersError(f"{node.name} takes {mine}, and {other.name} takes {theirs}")
        counterpart.update(zip(node.output, other.output, strict=True))
    return links


def _digest(value: NDArray[np.float32]) -> tuple[tuple[int, ...], bytes]:
    return value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()


def _layer(name: str) -> int:
    """Number of the layer in a name; 0 without one."""
    match = NUMBERED.search(name)
    return int(match[2]) if match else 0


def _duplicate(message: Message) -> Message:
    made = type(message)()
    made.CopyFrom(message)
    return made
