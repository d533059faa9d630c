"""Bases as ONNX files in the cache: exported once per shape, then quantised."""

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from adaptare.core import InputError
from adaptare.core.content_hash import Json, canonical_json, content_hash
from adaptare.core.lazy_names import check_installed
from adaptare.devices import this_machine
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.models.model_source import ModelSource, stored_weights, weights_identity
from adaptare.profiler.programs.builders import embedding_bytes
from adaptare.profiler.programs.onnx.base import HEAD, MODEL, PACKED, RECORD, OnnxBase
from adaptare.profiler.programs.onnx.form import ORT, is_ort_file
from adaptare.profiler.workloads.shape import one_layer
from adaptare.profiler.workloads.workload import Workload

# Graphs of an older layout are regenerated.
LAYOUT = 12
# Torch holds the weights, the builder reads them again, and the graph holds a copy while it is written.
EXPORT_TIMES = 3
# Every folder has these.
FILES = (MODEL, PACKED, RECORD)
NEEDED = ("onnx", "onnxruntime", "onnxruntime_genai", "torch")


class OnnxBases:
    """One folder per base.

    Args:
        cache: Parent folder; default: the user's cache folder.
        weights: A model whose weights are used for bases of its complete shape; bases of other shapes have random ones.
        tied: See `quantise`.

    Raises:
        MissingPackageError: Exporting needs a package that is not installed.
    """

    def __init__(
        self, cache: str | Path | None = None, *, weights: ModelSource | None = None, tied: bool = True
    ) -> None:
        check_installed(*NEEDED)
        self._kept, self._weights, self.tied = KeptFolders(cache, "onnx"), weights, tied
        versions = [importlib.metadata.version(name) for name in ("torch", "transformers", "onnxruntime-genai")]
        self._made_by = [*versions, _onnxruntime_version()]

    def base(self, workload: Workload) -> OnnxBase:
        """The base of a workload, exported and quantised unless it is cached."""

        def export(folder: Path) -> None:
            from adaptare.profiler.models.random_model import base_model
            from adaptare.profiler.programs.onnx.export import export_decoder

            _check_memory(workload)
            model = base_model(json.loads(config_of(workload)), self._stored(workload))
            export_decoder(model, folder, module=module_of(workload))

        if workload.quantisation == "none" and _cut_name(workload):
            return self._narrow(workload)

        def quantise(folder: Path) -> None:
            from adaptare.profiler.programs.onnx.quantise import quantise_base

            quantise_base(
                self.base(replace(workload, quantisation="none")), folder, workload.quantisation, tied=self.tied
            )

        folder = self.folder(workload)
        self._kept.files(folder, FILES, export if workload.quantisation == "none" else quantise)
        return OnnxBase.load(folder)

    def graph(self, workload: Workload) -> Path:
        """The graph of the base of a workload; one with layers cut is in the folder of the base it is cut from."""
        cut = _cut_name(workload) if workload.quantisation == "none" else ""
        return self.folder(workload) / (f"{cut}.onnx" if cut else MODEL)

    def folder(self, workload: Workload) -> Path:
        """Folder of the base of a workload, which may not exist yet."""
        identity = weights_identity(self._stored(workload))
        key = content_hash([LAYOUT, *self._made_by, config_of(workload), module_of(workload), identity])
        if workload.quantisation == "none":
            return self._kept.root / key
        parts = [key, _cut_name(workload), workload.quantisation, "" if self.tied else "untied"]
        return self._kept.root / "-".join(filter(None, parts))

    def file(self, file: Path, write: Callable[[Path], None]) -> None:
        """Writes a file, and its data in `FILE.data`, into the folder of a base unless it exists; marks it as used."""
        from adaptare.profiler.programs.onnx.surgery import is_graph

        self._kept.file(file, is_ort_file if file.suffix == ORT else is_graph, write)

    def _narrow(self, workload: Workload) -> OnnxBase:
        """The base of a workload with narrower or fewer layers, in floating point."""
        from adaptare.profiler.programs.onnx.narrow import narrow_base, write_narrow

        usual = workload.base
        base, file = self.base(usual), self.graph(workload)
        left_out = workload.configuration.left_out
        self.file(file, lambda fresh: write_narrow(base, workload.parts, fresh, left_out=left_out))
        return narrow_base(base, file.name, base.weight_bytes - usual.base_bytes + workload.base_bytes)

    def _stored(self, workload: Workload) -> Path | None:
        """The folder with weights of exactly this shape, if there is one."""
        return stored_weights(self._weights, workload.shape) if workload.scope == "model" else None


def _onnxruntime_version() -> str:
    """Version of the installed distribution of the package: builds for other hardware have other names."""
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(importlib.metadata.packages_distributions()["onnxruntime"][0])


def _check_memory(workload: Workload) -> None:
    """Raises `InputError` if exporting would exceed the memory."""
    needed = EXPORT_TIMES * (workload.base_bytes + embedding_bytes(workload))
    free = this_machine().free_bytes
    if needed > free:
        raise InputError(
            f"exporting the {workload.describe()} takes {needed / 2**20:,.0f} MiB of memory, and only "
            f"{free / 2**20:,.0f} MiB are free; free memory, or measure it by stubs"
        )


def _cut_name(workload: Workload) -> str:
    """File name part that identifies the weights that stay; empty if all do."""
    parts: dict[str, Json] = {path: part.to_json() for path, part in workload.parts.items()}
    left_out = workload.configuration.left_out
    return f"cut-{content_hash([parts, left_out])}" if parts or left_out else ""


def config_of(workload: Workload) -> str:
    """The config to export, as JSON.

    For a block, one decoder layer with a minimal vocabulary; for a head, one layer to be left out.
    """
    if workload.scope == "model":
        return workload.shape.config
    if workload.scope == "head":
        return workload.shape.stub(1).config
    return canonical_json(one_layer(json.loads(workload.shape.config)))


def module_of(workload: Workload) -> str:
    """Path of the module to cut out of the model."""
    return {"model": "", "head": HEAD, "block": "model.layers.0"}[workload.scope]
