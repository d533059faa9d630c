"""ONNX Runtime programs of workloads: a base that is exported once, with adapters added to its graph."""

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from adaptare.core import InputError
from adaptare.core.content_hash import Json, canonical_json, content_hash
from adaptare.devices import DeviceInfo, Feed, Program, ProgramFile, program_file
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.programs.builders import (
    Need,
    cache_traffic,
    copies_bytes,
    copies_name,
    embedding_bytes,
    name_of,
    with_tasks,
)
from adaptare.profiler.programs.onnx.base import (
    MASK,
    PACKED,
    PAST,
    PRESENT,
    OnnxBase,
    Port,
    adapter_inputs,
    beside,
    check_head,
    write_onnx_adapter,
)
from adaptare.profiler.programs.onnx.bases import OnnxBases, config_of
from adaptare.profiler.programs.onnx.form import LARGEST_BYTES, ORT, Form, Shapes
from adaptare.profiler.workloads.shape import Site, first_layer
from adaptare.profiler.workloads.sub_adapter import Halves, SubAdapter, random_adapter
from adaptare.profiler.workloads.workload import FED, Mode, Workload

# Load arguments of programs whose outputs are compared: they run once, so preparation is not worth its time.
ONCE = canonical_json({"prepared": False})

# Option of devices that write new keys and values into the buffer of the cache.
SHARED = "past_present_share_buffer=yes"
# First version of ONNX Runtime whose embeddings read the weights of a quantised head.
TIES_FROM = (1, 23)
# First version that knows the width behind attention with packed q, k and v, where sizes are fixed.
PACKS_FROM = (1, 31)


class OnnxPrograms:
    """ONNX files in the cache, in the folder of the base that they add adapters to.

    Programs of one base share its weights file, the same that `export` writes; each session prepacks the weights into
    separate memory. One swappable program serves every rank of its placement, because A and B are inputs.

    Args:
        device: Device that runs them.
        cache: Parent folder; default: the user's cache folder.
        weights: A model whose weights programs of its complete shape have; those of other shapes have random ones.
    """

    def __init__(
        self, device: DeviceInfo, *, cache: str | Path | None = None, weights: ModelSource | None = None
    ) -> None:
        self._bases = OnnxBases(cache, weights=weights, tied=_version(device.runtime) >= TIES_FROM)
        self._cache_bytes = device.cache_bytes
        self._form = Form.asked_by(device)
        self._packs = not self._form.is_fixed or _version(device.runtime) >= PACKS_FROM
        self._shares_buffer = SHARED in device.options

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """Application modes, without padding if all ranks are equal anyway."""
        padded: tuple[Mode, ...] = ("padded",) if len(set(_ranks(workload).values())) > 1 else ()
        return ("swappable", "static", *padded, "merged" if workload.quantisation == "none" else "requantised")

    def check(self, workload: Workload) -> None:
        workload.shape.check_positions(workload.positions)
        if workload.dtype != "float32":
            raise InputError(f"ONNX programs are made in float32, not {workload.dtype}; quantise the base instead")
        check_head(workload.shape.head_dim)
        if workload.configuration.kind != "lora":
            raise InputError(
                "DoRA is not put into ONNX graphs: each call would have to compute the lengths of the rows of W + B A; "
                "merge it with PEFT's merge_and_unload, which costs nothing then, or measure it on torch-cpu"
            )
        if uncut := [kind for kind in workload.configuration.kinds if kind.cuts and not kind.in_graphs]:
            raise InputError(f"ONNX graphs cannot be cut to another {uncut[0].name}; measure it on a torch device")
        if _ranks(workload) and workload.mode == "merged" and workload.quantisation != "none":
            raise InputError(
                f"an adapter cannot be merged into {workload.quantisation} weights as they are; apply it swappable or "
                "static, or merge in floating point and quantise again: requantised"
            )
        if workload.mode == "requantised" and workload.quantisation == "none":
            raise InputError("requantised needs a quantised base; merge the adapter instead")
        in_file = workload.base_bytes + embedding_bytes(workload)
        in_file += 0 if workload.mode in FED else workload.adapter_bytes
        if self._form.is_ort and in_file > LARGEST_BYTES:
            raise InputError(
                f"the weights of the {workload.describe()} are {in_file / 2**30:.1f} GiB, and a file of the ort format "
                "holds 2; quantise the base (int4), measure it by stubs, or use ort-cpu"
            )

    def need(self, workload: Workload) -> Need:
        """Memory estimate: each session prepacks the weights of its base separately."""
        self.check(workload)
        adapter, fed = workload.adapter_bytes, workload.mode in FED
        weights = workload.base_bytes + (0 if fed else adapter) + copies_bytes(workload, self._cache_bytes)
        name = f"{self._file(workload)}{copies_name(workload)}{f' {workload.hash}' * self._form.is_fixed}"
        # The cache is an input and, extended by the call, an output, unless it stays in its buffer.
        caches = 1 if self._shares_buffer else 2
        return Need(name, weights, caches * workload.cache_bytes + (adapter if fed else 0))

    def disk_bytes(self, base: Workload) -> int:
        """Bytes of all weights; a quantised head leaves the embeddings in floating point."""
        return self._bases.base(base).weight_bytes

    def program(self, workload: Workload) -> Program:
        need, base, file = self.need(workload), self._bases.base(workload), self._file(workload)
        self._bases.file(file, lambda fresh: self._write(workload, fresh))
        ranks = _ranks(workload)
        width = max(ranks.values(), default=0) if workload.mode == "padded" else 0
        fed = _fed(workload, ranks, width=width) if workload.mode in FED else {}
        feed = _feed(workload, base, fed, shares_buffer=self._shares_buffer)
        file = self._formed(file, feed, self._form)
        return Program(
            name_of(workload), file.name, "{}", (feed,), graph_files(file), need.program_bytes, *cache_traffic(workload)
        )

    def of_tasks(self, workload: Workload, tasks: int, folder: Path) -> Program:
        """The program with a feed for each of several tasks, whose adapter is read from a file that is written here.

        Args:
            folder: Folder for the files; they have the format of those that `export` writes.
        """
        program, base = self.program(workload), self.program(workload.base)
        known, arguments = (json.loads(each.feeds[0].arguments) for each in (base, program))
        adapter = {name: spec for name, spec in arguments["inputs"].items() if name not in known["inputs"]}
        files = [folder / f"task-{task}.onnx_adapter" for task in range(tasks)]
        return with_tasks(program, {**arguments, "inputs": known["inputs"]}, adapter, files, write_onnx_adapter)

    def merged_reference(self, workload: Workload) -> Program:
        """One graph, with the weights of every site as inputs, serves any adapter."""
        self.check(workload)
        base = self._bases.base(replace(workload, quantisation="none"))
        file = beside(base.model, f"folded-{workload.quantisation}.onnx")
        self._bases.file(file, lambda fresh: self._write_folded(workload, base, fresh))
        ranks = _ranks(workload)
        every = {path: ranks.get(path, 0) for path in _scope(workload)}
        feed = _feed(workload, base, _fed(workload, every), shares_buffer=self._shares_buffer)
        # It runs on the processor, with the shapes of every adapter.
        file = self._formed(file, feed, replace(self._form, shapes="free"))
        return Program(name_of(workload), file.name, ONCE, (feed,), graph_files(file), workload.base_bytes)

    def unrounded(self, workload: Workload) -> Program:
        """The program without prepacking: products with quantised weights compute in floating point."""
        return replace(self.program(workload), arguments=ONCE, moved_bytes=0, others_bytes=0, between_bytes=0)

    def _formed(self, graph: Path, feed: Feed, form: Form) -> Path:
        """The file of a graph in the form that the device asks for, written unless it exists."""
        shapes = _shapes(feed)
        file = form.file(graph, shapes)
        if file != graph:
            self._bases.file(file, lambda fresh: form.write(graph, shapes, fresh))
        return file

    def _file(self, workload: Workload) -> Path:
        """Path of the graph of a workload; equal for workloads that share it."""
        ranks, base = _ranks(workload), self._bases.graph(workload)
        if not ranks:
            return beside(base, PACKED) if self._packs else base
        end = ".onnx" if self._packs else "-apart.onnx"
        if workload.mode in FED:
            return beside(base, f"swappable-{content_hash(sorted(ranks))}{end}")
        return beside(base, f"{workload.mode}-{content_hash(ranks)}{end}")

    def _write(self, workload: Workload, file: Path) -> None:
        """Writes the graph of a base with an adapter; requantised ones are merged in floating point first."""
        from adaptare.profiler.programs.onnx.writer import write_graph

        application: Literal["merged", "static", "swappable"] = "static" if workload.mode == "static" else "swappable"
        quantisation, base = "none", workload
        if workload.in_weights:
            application, quantisation = "merged", workload.quantisation
            base = replace(workload, mode="merged", quantisation="none")
        adapted = _random_adapter(workload, self._bases.base(base), _ranks(workload))
        write_graph(
            adapted,
            file,
            application=application,
            quantisation=quantisation,
            tied=self._bases.tied,
            packs=self._packs,
        )

    def _write_folded(self, workload: Workload, base: OnnxBase, file: Path) -> None:
        from adaptare.profiler.programs.onnx.quantise import dequantised_weights
        from adaptare.profiler.programs.onnx.writer import write_graph

        rounded = workload.quantisation != "none"
        weights = dequantised_weights(self._bases.base(workload).model) if rounded else None
        adapted = _random_adapter(workload, base, dict.fromkeys(_scope(workload), 0))
        write_graph(adapted, file, application="folded", weights=weights)


def _version(runtime: str) -> tuple[int, ...]:
    """Major and minor version in the name of a runtime; a very large one if it names none."""
    found = re.search(r"(\d+)\.(\d+)", runtime)
    return tuple(map(int, found.groups())) if found else (999,)


# How a tensor names the file of its values in ONNX: the tag of a field, the length of the name in one byte, as names of
# fewer than 128 have it, and the name.
LOCATION = b"\x12%c%b"


def graph_files(graph: Path) -> tuple[ProgramFile, ...]:
    """A graph, and the weight files in its folder that it refers to."""
    if graph.suffix == ORT:
        return (program_file(graph),)
    content, beside = graph.read_bytes(), sorted(graph.parent.glob("*.data"))
    data = [file for file in beside if LOCATION % (len(file.name), file.name.encode()) in content]
    return tuple(program_file(file) for file in (graph, *data))


def _shapes(feed: Feed) -> Shapes:
    """Shape of each input."""
    inputs = json.loads(feed.arguments)["inputs"]
    return {name: made.get("padded_to", made["shape"]) for name, made in inputs.items()}


def _scope(workload: Workload) -> dict[str, Site]:
    """The linears that run, by path in the graph."""
    rename = first_layer if workload.scope != "model" else str
    return {rename(site.path): site for site in workload.scope_sites}


def _ranks(workload: Workload) -> dict[str, int]:
    """Path in the graph -> rank of the linears that run and take an adapter: all of them in an open graph."""
    ranks, every = workload.configuration.by_path, workload.graph == "open"
    return {path: ranks.get(site.path, 0) for path, site in _scope(workload).items() if every or site.path in ranks}


def _random_adapter(workload: Workload, base: OnnxBase, ranks: Mapping[str, int]) -> SubAdapter[OnnxBase]:
    """Random weights by path in the graph."""
    scope = _scope(workload)
    sizes = {path: (scope[path].in_features, scope[path].out_features) for path in ranks}
    halves = {path: Halves.random(path, rank, *sizes[path]) for path, rank in ranks.items()}
    return SubAdapter(workload.configuration, halves, base)


def _fed(workload: Workload, ranks: Mapping[str, int], *, width: int = 0) -> dict[str, Json]:
    """Specifications of A and B for the worker, zero-padded to `width` ranks if that is given."""
    scope, inputs = _scope(workload), dict[str, Json]()
    for path, rank in ranks.items():
        halves = random_adapter(path, rank, scope[path].in_features, scope[path].out_features)
        padded = ((scope[path].in_features, width), (width, scope[path].out_features)) if width else (None, None)
        for name, half, shape in zip(adapter_inputs(path), halves, padded, strict=True):
            inputs[name] = half.spec(padded_to=shape)
    return inputs


def _feed(workload: Workload, base: OnnxBase, adapter: Mapping[str, Json], *, shares_buffer: bool = False) -> Feed:
    """Random tokens and a random cache, equal for every program of a base, and the adapter if it is an input.

    A shared buffer has room for the tokens of the call.
    """
    decode = workload.phase == "decode"
    batch, tokens, past = workload.batch, 1 if decode else workload.tokens, workload.past if decode else 0
    vocabulary = json.loads(config_of(workload))["vocab_size"]
    inputs, shared = dict[str, Json](), dict[str, Json]()
    for port in base.inputs:
        room = 0
        if shares_buffer and port.name.startswith(PAST):
            room, shared[port.name.replace(PAST, PRESENT)] = tokens, port.name
        inputs[port.name] = _filled(port, port.sizes(batch=batch, tokens=tokens, past=past + room), vocabulary)
    arguments: dict[str, Json] = {"inputs": {**inputs, **adapter}, **({"shared": shared} if shared else {})}
    return Feed(workload.hash, canonical_json(arguments), workload.work())


def _filled(port: Port, shape: list[int], vocabulary: int) -> Json:
    made: dict[str, Json] = {"dtype": port.dtype, "shape": shape}
    seed = zlib.crc32(port.name.encode())
    if port.name == MASK:
        return {**made, "constant": 1}
    if port.dtype.startswith("int"):
        return {**made, "integers": vocabulary, "seed": seed}
    return {**made, "uniform": 3**0.5, "seed": seed}  # standard deviation 1
