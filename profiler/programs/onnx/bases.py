"""Bases as ONNX files in the cache: exported once for each shape, then quantised."""

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from adaptare.devices import InputError, Json, Machine, MissingPackageError, canonical_json
from adaptare.profiler.models.disk_cache import (
    CACHE_BYTES,
    UNFINISHED,
    cache_folder,
    cached_file,
    cached_folder,
    make_room,
    mark_used,
)
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.models.stored_model import stored_model, weights_identity
from adaptare.profiler.programs.builders import base_bytes, embedding_bytes, loaded_widths
from adaptare.profiler.programs.onnx.base import MODEL, RECORD, OnnxBase
from adaptare.profiler.workloads.narrowing import kept_parts
from adaptare.profiler.workloads.shape import first_layer, no_layer, one_layer
from adaptare.profiler.workloads.workload import Workload

# Graphs of an older layout are made anew.
LAYOUT = 3
# Torch holds the weights once, and their graph once more while it is written.
EXPORT_TIMES = 3
NEEDED = ("onnx", "onnxruntime", "onnxscript", "torch")


class OnnxBases:
    """One folder for each base.

    Args:
        cache: Folder for all of them; default: the user's cache folder.
        weights: A model that bases of its whole shape have the weights of; those of other shapes have random ones.

    Raises:
        MissingPackageError: Exporting needs a package that is not installed.
    """

    def __init__(self, cache: str | Path | None = None, *, weights: ModelSource | None = None) -> None:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingPackageError(
                f"ONNX programs need {', '.join(missing)}; install with: pip install 'adaptare[torch,onnx]'"
            )
        self._root = cache_folder(cache) / "onnx"
        self._weights = weights
        versions = [importlib.metadata.version(name) for name in ("torch", "transformers", "onnxscript")]
        self._made_by = [*versions, _onnxruntime_version()]
        # What was handed out may be loaded any time, so it makes no room.
        self._in_use: set[Path] = set()

    def base(self, workload: Workload) -> OnnxBase:
        """The base of a workload, exported and quantised if it was not yet."""

        def export(folder: Path) -> None:
            from adaptare.profiler.models.random_model import random_model
            from adaptare.profiler.programs.onnx.export import export_decoder

            _check_memory(workload)
            stored = self._stored(workload)
            model = stored_model(stored) if stored else random_model(json.loads(config_of(workload)))
            export_decoder(model, folder, module=module_of(workload))

        if workload.quantisation == "none" and loaded_widths(workload):
            return self._narrow(workload)

        def quantise(folder: Path) -> None:
            from adaptare.profiler.programs.onnx.quantise import quantise_base

            quantise_base(self.base(replace(workload, quantisation="none")), folder, workload.quantisation)

        return self._kept(self.folder(workload), export if workload.quantisation == "none" else quantise)

    def graph(self, workload: Workload) -> Path:
        """The graph of the base of a workload; one with narrower layers lies beside the base that it is cut from."""
        narrow = _narrow_name(workload) if workload.quantisation == "none" else ""
        return self.folder(workload) / (f"{narrow}.onnx" if narrow else MODEL)

    def folder(self, workload: Workload) -> Path:
        """Where the base of a workload is kept, or will be."""
        stored = self._stored(workload)
        identity = weights_identity(stored) if stored else None
        key = content_hash([LAYOUT, *self._made_by, config_of(workload), module_of(workload), identity])
        if workload.quantisation == "none":
            return self._root / key
        return self._root / "-".join(filter(None, [key, _narrow_name(workload), workload.quantisation]))

    def file(self, file: Path, write: Callable[[Path], None]) -> None:
        """Makes a file in the folder of a base if need be, and notes that it was used."""
        from adaptare.profiler.programs.onnx.surgery import is_graph

        self._in_use |= {file, file.parent / MODEL, file.parent / RECORD}
        if not is_graph(file):
            file.unlink(missing_ok=True)
            cached_file(file, write)
            make_room(self._root, limit_bytes=CACHE_BYTES, keep=self._in_use)
        mark_used(file)

    def _narrow(self, workload: Workload) -> OnnxBase:
        """The base of a workload whose layers are narrower, in floating point."""
        from adaptare.profiler.programs.onnx.narrow import narrow_base, write_narrow

        usual = workload.base
        base, file = self.base(usual), self.graph(workload)
        rename = first_layer if workload.scope != "model" else str
        parts = kept_parts(workload.shape, workload.configuration.by_layer)
        here = {rename(site.path): parts[site.path] for site in workload.scope_sites if site.path in parts}

        def write(fresh: Path) -> None:
            with tempfile.TemporaryDirectory(dir=file.parent, prefix=UNFINISHED) as place:
                data = Path(place) / f"{file.name}.data"
                write_narrow(base, here, fresh, data)
                data.replace(file.parent / data.name)

        self.file(file, write)
        sites = {rename(site.path): site for site in workload.scope_sites}
        return narrow_base(base, sites, file.name, base.weight_bytes - base_bytes(usual) + base_bytes(workload))

    def _kept(self, folder: Path, write: Callable[[Path], None]) -> OnnxBase:
        """The base in a folder, made if need be, and noted as used."""
        files = [folder / MODEL, folder / RECORD]
        self._in_use.update(files)
        if not all(file.exists() for file in files):  # some of it may have had to make room
            shutil.rmtree(folder, ignore_errors=True)
            cached_folder(folder, write)
            make_room(self._root, limit_bytes=CACHE_BYTES, keep=self._in_use)
        for file in files:
            mark_used(file)
        return OnnxBase.load(folder)

    def _stored(self, workload: Workload) -> Path | None:
        """The folder with the weights of this very shape, if there is one."""
        known = self._weights is not None and workload.scope == "model" and workload.shape == self._weights.shape
        return self._weights.folder if self._weights is not None and known else None


def _onnxruntime_version() -> str:
    """Version of whichever distribution brings the package here: builds for other hardware have other names."""
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:
        return importlib.metadata.version(importlib.metadata.packages_distributions()["onnxruntime"][0])


def _check_memory(workload: Workload) -> None:
    """Raises `InputError` where exporting would take more than there is."""
    needed = EXPORT_TIMES * (base_bytes(workload) + embedding_bytes(workload))
    free = Machine().free_bytes()
    if needed > free:
        raise InputError(
            f"exporting the {workload.describe()} takes {needed / 2**20:,.0f} MiB of memory, and only "
            f"{free / 2**20:,.0f} MiB are free; free memory, or measure it by stubs"
        )


def _narrow_name(workload: Workload) -> str:
    """What tells apart bases of other widths; nothing where all are the base's."""
    widths = loaded_widths(workload)
    return f"narrow-{content_hash(sorted(widths.items()))}" if widths else ""


def content_hash(content: Json) -> str:
    """16 hex digits of SHA-256, equal for equal content."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def config_of(workload: Workload) -> str:
    """The config that is exported, as JSON.

    For a block or a layer, one decoder layer with next to no vocabulary; for a head, no layer.
    """
    if workload.scope == "model":
        return workload.shape.config
    reduced = no_layer if workload.scope == "head" else one_layer
    return canonical_json(reduced(json.loads(workload.shape.config)))


def module_of(workload: Workload) -> str:
    """What is cut out of it."""
    return {"model": "", "head": "", "block": "model.layers.0", "layer": first_layer(workload.site)}[workload.scope]
