"""Programs that are graphs of OpenVINO with the cache in states, and adapters as OpenVINO GenAI inserts them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from adaptare.devices.agent.feeds import filled
from adaptare.devices.agent.runtime import Bound, Operators, Output, RuntimeFacts, Timed

NAME = "openvino"
# Properties without which nothing is rounded; the processor and the options decide them.
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
# Names begin so of what the linears of a decoder layer are converted to.
SITE = re.compile(r"__module\.(model\.layers\.\d+\.\w+\.\w+)/")
# A state of an adapter is named after its site and one of these.
HALVES = ("A", "alpha", "B")


class OpenvinoRuntime:
    """Runtime of OpenVINO, with all its defaults but the number of threads and the properties that are given."""

    packages = ("numpy", "openvino>=2026.1")

    def setup(self, threads: int, options: Mapping[str, Any]) -> RuntimeFacts:
        """Takes `device` and `properties` of the library. The version names what the properties lead to."""
        import openvino

        self._core, self._device = openvino.Core(), str(options.get("device", "CPU"))
        if self._device not in self._core.available_devices:
            known = ", ".join(self._core.available_devices)
            raise ValueError(f"openvino finds no device {self._device!r} here; it finds {known}")
        properties = dict(options.get("properties", {}))
        if self._device == "CPU":
            properties["INFERENCE_NUM_THREADS"] = threads
        try:
            self._core.set_property(self._device, properties)
            found = [self._core.get_property(self._device, name) for name in EXACT if self._device == "CPU"]
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"openvino refuses the properties {properties}: {reason}") from error
        names = [value.get_type_name() if hasattr(value, "get_type_name") else str(value) for value in found]
        release = openvino.__version__.partition("-")[0]
        return RuntimeFacts("-".join([f"{NAME} {release}", *names]), self._core.available_devices)

    def load(self, folder: str, source: str, arguments: Mapping[str, Any], copy: int = 0) -> OpenvinoModel:
        """Compiles a graph.

        Args:
            folder: Folder with the graph and its weights.
            source: Name of the graph.
            arguments: `sites` with adapters in states, by the paths of their modules; `static` or `merged`: tensors of
                an adapter in the graph, as `filled` takes them, by site and half; `exact: true` for computing as in the
                data types of the graph.
            copy: Not used; every loading has its own weights.
        """
        return self._compiled(os.path.join(folder, source), arguments)

    def attribute(
        self, folder: str, source: str, arguments: Mapping[str, Any], feed: Mapping[str, Any], timed: Timed
    ) -> tuple[Sequence[float], Sequence[Operators]]:
        """Profiles the calls; operator types are those of the compiled graph."""
        model = self._compiled(os.path.join(folder, source), arguments, profiled=True)
        call, restore = model.bind(feed)
        restore()
        call()
        runs: list[Operators] = []

        def read() -> None:
            runs.append(model.operators())
            restore()

        seconds = timed(call, read)
        return seconds, [*runs[1:], model.operators()]

    def graph(self, file: str, arguments: Mapping[str, Any]) -> Any:
        """A graph with the adapter of `load`."""
        from openvino import opset13 as opset

        graph = self._core.read_model(file)
        products = _products(graph)
        for path in arguments.get("sites", ()):
            _add(products[path], [_state(graph, path, half, products[path]) for half in HALVES])
        for path, specs in arguments.get("static", {}).items():
            _add(products[path], [opset.constant(half) for half in _halves(specs)])
        for path, specs in arguments.get("merged", {}).items():
            _merge(self._core, products[path], *_halves(specs))
        return graph

    def _compiled(self, file: str, arguments: Mapping[str, Any], profiled: bool = False) -> OpenvinoModel:
        properties = {**(EXACT if arguments.get("exact") else {}), "PERF_COUNT": profiled}
        return OpenvinoModel(self._core.compile_model(self.graph(file, arguments), self._device, properties))


class OpenvinoModel:
    """A compiled graph, with a request for each feed."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self._request: Any = None

    def bind(self, arguments: Mapping[str, Any]) -> Bound:
        """Computes the cache of a feed.

        Args:
            arguments: `ids`, specification of all tokens, as `filled` takes it; `before`, number of them that are in
                the cache before each call; `adapter`, specifications of A and B by site, for those in states.

        Returns:
            The call, which computes the other tokens; and the return to the position before. That sets the cache to one
            position less and computes one token, so that the call finds room in the cache, as it does nearly always
            while a text grows.
        """
        import openvino

        ids, before = filled("ids", arguments["ids"]).astype(np.int64), arguments["before"]
        request = self._request = self._compiled.create_infer_request()
        adapter, caches = states(arguments.get("adapter", {})), []
        for state in request.query_state():
            if state.name in adapter:
                state.state = openvino.Tensor(adapter[state.name])
            else:
                caches.append(state)
        kept: list[Any] = []
        if before > 1:
            _give(request, ids, 0, before - 1)
            request.infer()
            kept = [openvino.Tensor(state.state.data.copy()) for state in caches]

        def restore() -> None:
            for state in caches:
                state.reset()
            for state, values in zip(caches, kept):
                state.state = values
            if before:
                _give(request, ids, before - 1, before)
                request.infer()
            _give(request, ids, before, len(ids))

        def call() -> Output:
            found = request.infer(share_outputs=True)
            return Output(lambda: found["logits"])

        return call, restore

    def nodes(self) -> Mapping[str, int]:
        """Nodes of the compiled graph."""
        return {NAME: len(self._compiled.get_runtime_model().get_ops())}

    def operators(self) -> dict[str, list[float]]:
        """Calls and seconds by operator type in the last call of the last feed that was bound."""
        found: dict[str, list[float]] = {}
        for node in self._request.profiling_info:
            if node.real_time.total_seconds():
                own = found.setdefault(node.node_type, [0, 0.0])
                own[0] += 1
                own[1] += node.real_time.total_seconds()
        return found


def last_logits(model: Any, ids: Sequence[int], adapter: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Logits of the last two tokens by the installed library, with one thread and nothing rounded; (2, vocabulary).

    Args:
        model: Graph, or its file.
        ids: All tokens, of which the last one is computed with the cache of the others; at least 2.
        adapter: A, shape (rank, in), and B, shape (out, rank), by the path of the module.
    """
    import openvino
    from openvino import opset13 as opset

    core, tokens, found = openvino.Core(), np.array(ids, np.int64), []
    graph = core.read_model(model) if isinstance(model, str) else model
    products = _products(graph)
    for path, halves in adapter.items():
        _add(products[path], [opset.constant(half) for half in halves])
    request = core.compile_model(graph, "CPU", {**EXACT, "INFERENCE_NUM_THREADS": 1}).create_infer_request()
    for start, end in ((0, len(tokens) - 1), (len(tokens) - 1, len(tokens))):
        _give(request, tokens, start, end)
        found.append(request.infer()["logits"][0, -1])
    return np.stack(found)


def states(adapter: Mapping[str, Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Values of the states of an adapter, specified by site and half, by their names."""
    found = {}
    for path, specs in adapter.items():
        A, B = _halves(specs)
        for half, values in zip(HALVES, (A, np.ones((1, len(A)), np.float32), B)):
            found[_state_name(path, half)] = values
    return found


def _give(request: Any, ids: np.ndarray, start: int, end: int) -> None:
    """Sets the inputs to some tokens of one sequence, whose earlier ones are in the cache."""
    from openvino import Tensor

    request.set_tensor("input_ids", Tensor(np.ascontiguousarray(ids[None, start:end])))
    request.set_tensor("attention_mask", Tensor(np.ones((1, end), np.int64)))
    request.set_tensor("position_ids", Tensor(np.arange(start, end, dtype=np.int64)[None]))
    request.set_tensor("beam_idx", Tensor(np.zeros(1, np.int32)))


def _products(graph: Any) -> dict[str, Any]:
    """Product of each linear of a decoder layer, by the path of its module."""
    matches = ((SITE.match(node.get_friendly_name()), node) for node in graph.get_ops())
    return {found[1]: node for found, node in matches if found and node.get_type_name() == "MatMul"}


def _state_name(path: str, half: str) -> str:
    return f"{path}.{half}"


def _state(graph: Any, path: str, half: str, product: Any) -> Any:
    """A state of an adapter, of any rank: A of shape (rank, in), alpha of shape (1, rank), B of shape (out, rank)."""
    import openvino
    from openvino import opset13 as opset

    out_features, in_features = product.input_value(1).get_shape()
    info = openvino.op.util.VariableInfo()
    info.variable_id, info.data_type = _state_name(path, half), openvino.Type.f32
    info.data_shape = openvino.PartialShape({"A": [-1, in_features], "alpha": [1, -1], "B": [out_features, -1]}[half])
    variable = openvino.op.util.Variable(info)
    read = opset.read_value(variable)
    graph.add_variables([variable])
    graph.add_sinks([opset.assign(read, variable)])
    return read


def _halves(specs: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """A, shape (rank, in), and B, shape (out, rank), from the specifications of their transposes."""
    A, B = (np.ascontiguousarray(filled(half, specs[half]).T) for half in ("A", "B"))
    return A, B


def _add(product: Any, adapter: Sequence[Any]) -> None:
    """Adds an adapter to a product: A, alpha if it is in states, and B, in the order that the library fuses."""
    from openvino import opset13 as opset

    readers = product.output(0).get_target_inputs()
    value = opset.matmul(product.input_value(0), adapter[0], False, True)
    if len(adapter) == len(HALVES):
        value = opset.multiply(value, adapter[1])
    added = opset.add(opset.matmul(value, adapter[-1], False, True), product)
    for reader in readers:
        reader.replace_source_output(added.output(0))


def _merge(core: Any, product: Any, A: np.ndarray, B: np.ndarray) -> None:
    """Replaces the weights of a product by those with an adapter; quantised ones become floating-point numbers."""
    import openvino
    from openvino import opset13 as opset

    weight = product.input_value(1)
    values = core.compile_model(openvino.Model([weight], [], "weight"), "CPU", EXACT)({})[0]
    inner = weight.get_node().input_value(0) if weight.get_node().get_type_name() == "Convert" else weight
    merged = opset.constant((values + B @ A).astype(inner.get_element_type().to_dtype()))
    if inner.get_element_type().is_real() and inner is not weight:
        merged = opset.convert(merged, "f32")
    product.input(1).replace_source_output(merged.output(0))
