"""ONNX Runtime programs of workloads: a base that is exported once, with adapters added to its graph."""

import json
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.devices import DeviceInfo, Feed, Program, ProgramFile, program_file
from adaptare.devices.program import Json, canonical_json, content_hash
from adaptare.profiler.models.disk_cache import UNFINISHED
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.programs.builders import (
    Need,
    adapter_bytes,
    base_bytes,
    cache_bytes,
    cache_traffic,
    copies_bytes,
    copies_name,
    embedding_bytes,
    name_of,
)
from adaptare.profiler.programs.onnx.base import MODEL, OnnxBase, Port, adapter_inputs
from adaptare.profiler.programs.onnx.bases import OnnxBases, config_of
from adaptare.profiler.programs.onnx.form import LARGEST_BYTES, ORT, Form, Shapes
from adaptare.profiler.workloads.adapter_weights import RandomMatrix, random_adapter
from adaptare.profiler.workloads.shape import Site, first_layer
from adaptare.profiler.workloads.workload import FED, Mode, Workload

# Load arguments of programs whose outputs are compared: they run once, so preparation is not worth its time.
ONCE = canonical_json({"prepared": False})


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
        self._bases = OnnxBases(cache, weights=weights)
        self._cache_bytes = device.cache_bytes
        self._form = Form.asked_by(device)

    def modes(self, workload: Workload) -> tuple[Mode, ...]:
        """See `Programs.modes`; without padding if all ranks are equal anyway."""
        padded: tuple[Mode, ...] = ("padded",) if len(set(_ranks(workload).values())) > 1 else ()
        return ("swappable", "static", *padded, "merged" if workload.quantisation == "none" else "requantised")

    def check(self, workload: Workload) -> None:
        """See `Programs.check`."""
        workload.shape.check_positions(workload.positions)
        if workload.dtype != "float32":
            raise InputError(f"ONNX programs are made in float32, not {workload.dtype}; quantise the base instead")
        if workload.configuration.kind != "lora":
            raise InputError(
                "DoRA is not put into ONNX graphs: each call would have to compute the lengths of the rows of W + B A; "
                "merge it with PEFT's merge_and_unload, which costs nothing then, or measure it on torch-cpu"
            )
        if _ranks(workload) and workload.mode == "merged" and workload.quantisation != "none":
            raise InputError(
                f"an adapter cannot be merged into {workload.quantisation} weights as they are; apply it swappable or "
                "static, or merge in floating point and quantise again: requantised"
            )
        if workload.mode == "requantised" and workload.quantisation == "none":
            raise InputError("requantised needs a quantised base; merge the adapter instead")
        in_file = base_bytes(workload) + embedding_bytes(workload)
        in_file += 0 if workload.mode in FED else adapter_bytes(workload)
        if self._form.is_ort and in_file > LARGEST_BYTES:
            raise InputError(
                f"the weights of the {workload.describe()} are {in_file / 2**30:.1f} GiB, and a file of the ort format "
                "holds 2; quantise the base (int4), measure it by stubs, or use ort-cpu"
            )

    def need(self, workload: Workload) -> Need:
        """See `Programs.need`; each session prepacks the weights of its base separately."""
        self.check(workload)
        adapter, fed = adapter_bytes(workload), workload.mode in FED
        weights = base_bytes(workload) + (0 if fed else adapter) + copies_bytes(workload, self._cache_bytes)
        name = f"{self._file(workload)}{copies_name(workload)}{f' {workload.hash}' * self._form.is_fixed}"
        # The cache is an input and, extended by the call, an output.
        return Need(name, weights, 2 * cache_bytes(workload) + (adapter if fed else 0))

    def disk_bytes(self, base: Workload) -> int:
        """See `Programs.disk_bytes`; a quantised head leaves the embeddings in floating point."""
        return self._bases.base(base).weight_bytes

    def program(self, workload: Workload) -> Program:
        """See `Programs.program`."""
        need, base, file = self.need(workload), self._bases.base(workload), self._file(workload)
        self._bases.file(file, lambda fresh: self._write(workload, base, fresh, data=_data_of(file)))
        feed = _feed(workload, base, self._adapter_inputs(workload))
        file = self._formed(file, feed, self._form, batch=workload.batch)
        return Program(
            name_of(workload), file.name, "{}", (feed,), _files(file), need.program_bytes, *cache_traffic(workload)
        )

    def merged_reference(self, workload: Workload) -> Program:
        """See `Programs.merged_reference`; one graph, with the weights of every site as inputs, serves any adapter."""
        self.check(workload)
        base = self._bases.base(replace(workload, quantisation="none"))
        file = _beside(base.model, f"folded-{workload.quantisation}")
        self._bases.file(file, lambda fresh: self._write_folded(workload, base, fresh, data=_data_of(file)))
        ranks = _ranks(workload)
        inputs = {}
        for path, site in _scope(workload).items():
            inputs.update(_fed(path, random_adapter(path, ranks.get(path, 0), site.in_features, site.out_features)))
        feed = _feed(workload, base, inputs)
        # It runs on the processor, with the shapes of every adapter.
        file = self._formed(file, feed, replace(self._form, shapes="free"), batch=workload.batch)
        return Program(name_of(workload), file.name, ONCE, (feed,), _files(file), base_bytes(workload))

    def unrounded(self, workload: Workload) -> Program:
        """See `Programs.unrounded`: without prepacking, products with quantised weights compute in floating point."""
        return replace(self.program(workload), arguments=ONCE, moved_bytes=0, others_bytes=0, between_bytes=0)

    def _formed(self, graph: Path, feed: Feed, form: Form, *, batch: int) -> Path:
        """The file of a graph in the form that the device asks for, written unless it exists."""
        shapes = _shapes(feed)
        file = form.file(graph, shapes)
        if file != graph:
            self._bases.file(file, lambda fresh: form.write(graph, shapes, fresh, batch=batch))
        return file

    def _adapter_inputs(self, workload: Workload) -> dict[str, Json]:
        """A and B of every site with adapter inputs, padded to the largest rank in mode `padded`."""
        if workload.mode not in FED:
            return {}
        ranks, inputs = _ranks(workload), {}
        largest = max(ranks.values(), default=0)
        for path, halves in _adapter(workload).items():
            inputs.update(_fed(path, halves, width=largest if workload.mode == "padded" else ranks[path]))
        return inputs

    def _file(self, workload: Workload) -> Path:
        """Path of the graph of a workload; equal for workloads that share it."""
        ranks, base = _ranks(workload), self._bases.graph(workload)
        if not ranks:
            return base
        if workload.mode in FED:
            return _beside(base, f"swappable-{content_hash(sorted(ranks))}")
        return _beside(base, f"{workload.mode}-{content_hash(ranks)}")

    def _write(self, workload: Workload, base: OnnxBase, file: Path, *, data: Path) -> None:
        """Writes the graph of a base with an adapter."""
        import onnx

        from adaptare.profiler.programs.onnx import surgery

        if workload.in_weights:
            self._write_merged(workload, file, data=data)
            return
        adapter = {path: (A.array(), B.array()) for path, (A, B) in _adapter(workload).items()}
        model = surgery.load_graph(base)
        if workload.mode == "static":
            surgery.add_static(model, base.sites, adapter)
        else:
            surgery.add_swappable(model, {path: base.sites[path] for path in adapter}, _widths(workload))
        onnx.save(model, file)

    def _write_merged(self, workload: Workload, file: Path, *, data: Path) -> None:
        """Merges in floating point, then quantises like the base."""
        from adaptare.profiler.programs.onnx.adapted import write_onnx_merged
        from adaptare.profiler.programs.onnx.quantise import quantise
        from adaptare.profiler.programs.onnx.surgery import rename_data

        base = self._bases.base(replace(workload, mode="merged", quantisation="none"))
        adapter = {path: (A.array(), B.array()) for path, (A, B) in _adapter(workload).items()}
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=UNFINISHED) as place:
            write_onnx_merged(base, adapter, Path(place))
            # A graph refers to its data by name, so both get their final names before they are moved.
            target = Path(place) / data.name.removesuffix(".data")
            if workload.quantisation != "none":
                quantise(Path(place) / MODEL, target, workload.quantisation)
            else:
                rename_data(Path(place) / MODEL, target)
            if _data_of(target).exists():
                _data_of(target).replace(data)
            target.replace(file)

    def _write_folded(self, workload: Workload, base: OnnxBase, file: Path, *, data: Path) -> None:
        import onnx

        from adaptare.profiler.programs.onnx import surgery
        from adaptare.profiler.programs.onnx.quantise import dequantised_weights

        model = surgery.load_graph(base)
        if workload.quantisation != "none":
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=UNFINISHED) as place:
                fresh = Path(place) / data.name
                surgery.change_weights(model, dequantised_weights(self._bases.base(workload).model), fresh)
                fresh.replace(data)
        surgery.add_folded(model, base.sites, _widths(workload))
        onnx.save(model, file)


def _beside(base: Path, name: str) -> Path:
    """Path of a graph derived from a base; several bases of one folder differ in their widths."""
    return base.with_name(f"{name}.onnx" if base.name == MODEL else f"{base.stem}-{name}.onnx")


def _data_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.data")


def _files(graph: Path) -> tuple[ProgramFile, ...]:
    """A graph, and the weight files in its folder that it refers to."""
    if graph.suffix == ORT:
        return (program_file(graph),)
    content = graph.read_bytes()
    data = [file for file in sorted(graph.parent.glob("*.data")) if file.name.encode() in content]
    return tuple(program_file(file) for file in (graph, *data))


def _shapes(feed: Feed) -> Shapes:
    """Shape of each input."""
    inputs = json.loads(feed.arguments)["inputs"]
    return {name: made.get("padded_to", made["shape"]) for name, made in inputs.items()}


def _scope(workload: Workload) -> dict[str, Site]:
    """The linears that run, by path in the graph."""
    rename = first_layer if workload.scope != "model" else str
    return {rename(site.path): site for site in workload.scope_sites}


def _widths(workload: Workload) -> dict[str, tuple[int, int]]:
    return {path: (site.in_features, site.out_features) for path, site in _scope(workload).items()}


def _ranks(workload: Workload) -> dict[str, int]:
    """Path in the graph -> rank of the linears that run and take an adapter: all of them in an open graph."""
    ranks, every = workload.configuration.by_path, workload.graph == "open"
    return {path: ranks.get(site.path, 0) for path, site in _scope(workload).items() if every or site.path in ranks}


def _adapter(workload: Workload) -> dict[str, tuple[RandomMatrix, RandomMatrix]]:
    widths = _widths(workload)
    return {path: random_adapter(path, rank, *widths[path]) for path, rank in _ranks(workload).items()}


def _fed(path: str, halves: tuple[RandomMatrix, RandomMatrix], *, width: int | None = None) -> dict[str, Json]:
    """Specification of A and B for the worker, zero-padded to `width` ranks if that is given."""
    A, B = halves
    inputs: dict[str, Json] = {}
    padded = ((A.shape[0], width), (width, B.shape[1])) if width else (None, None)
    for name, half, shape in zip(adapter_inputs(path), halves, padded, strict=True):
        made: dict[str, Json] = {"dtype": "float32", "shape": list(half.shape)}
        made |= {"uniform": half.limit, "seed": half.seed} if min(half.shape) else {"constant": 0}
        inputs[name] = made | ({"padded_to": list(shape)} if shape and shape != half.shape else {})
    return inputs


def _feed(workload: Workload, base: OnnxBase, adapter: Mapping[str, Json]) -> Feed:
    """Random tokens and a random cache, equal for every program of a base, and the adapter if it is an input."""
    decode = workload.phase == "decode"
    sizes = {
        "batch": workload.batch,
        "tokens": 1 if decode else workload.tokens,
        "past": workload.past if decode else 0,
    }
    vocabulary = json.loads(config_of(workload))["vocab_size"]
    inputs = {port.name: _filled(port, port.sizes(**sizes), vocabulary) for port in base.inputs}
    return Feed(workload.hash, canonical_json({"inputs": {**inputs, **adapter}}), workload.work())


def _filled(port: Port, shape: list[int], vocabulary: int) -> Json:
    made: dict[str, Json] = {"dtype": port.dtype, "shape": shape}
    seed = zlib.crc32(port.name.encode())
    if port.dtype == "bool":
        return {**made, "constant": True}
    if port.dtype.startswith("int"):
        return {**made, "integers": vocabulary, "seed": seed}
    return {**made, "uniform": 3**0.5, "seed": seed}  # standard deviation 1
