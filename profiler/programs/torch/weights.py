"""Weight files that torch programs load like a user's checkpoint: mapped from the file, not created in memory.

Weights in memory-mapped pages are read a few per cent slower than those in memory allocated by the process
(`benchmarks/stock_process.py` compares with processes that load a checkpoint).
"""

import importlib.metadata
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptare.core.content_hash import Json, content_hash
from adaptare.devices import ProgramFile, program_file
from adaptare.profiler.models.disk_cache import (
    cache_folder,
    cache_limit_bytes,
    cached_folder,
    make_room,
    mark_used,
)
from adaptare.profiler.workloads.configuration import AdapterKind
from adaptare.profiler.workloads.part import Part
from adaptare.profiler.workloads.shape import first_layer, no_layer, one_layer
from adaptare.profiler.workloads.workload import Scope

CONFIG, WEIGHTS = "config.json", "model.safetensors"
# Files of an older layout are regenerated.
LAYOUT = 1


class TorchWeights:
    """One folder per base, and per adapter merged into a base; weights are random.

    Args:
        cache: Parent folder; default: the user's cache folder.
    """

    def __init__(self, cache: str | Path | None = None) -> None:
        self._root, self._limit_bytes = cache_folder(cache) / "torch", cache_limit_bytes()
        self._in_use: set[Path] = set()

    def files(
        self,
        config: Mapping[str, Any],
        ranks: Mapping[str, int],
        *,
        kind: AdapterKind,
        dtype: str,
        parts: Mapping[str, Part] | None = None,
    ) -> tuple[ProgramFile, ...]:
        """Config and weights, written unless they exist.

        Args:
            config: Content of a transformers config.
            ranks: Module path -> rank of the adapter that is merged into the weights; empty for a base.
            kind: Kind of the adapter.
            dtype: Name of a torch dtype.
            parts: Module path -> part of the weight that the adapter applies to, where it is not the whole; the rest
                stays as it is.

        Raises:
            StorageError: The cache is not writable.
        """
        versions = [importlib.metadata.version(name) for name in ("torch", "transformers")]
        named = [LAYOUT, *versions, config, dict(ranks), kind if ranks else "", dtype]
        narrow: list[Json] = [{path: part.to_json() for path, part in parts.items()}] if parts else []
        folder = self._root / content_hash([*named, *narrow])
        files = [folder / CONFIG, folder / WEIGHTS]
        self._in_use.update(files)
        if not all(file.exists() for file in files):  # some files may have been evicted from the cache
            shutil.rmtree(folder, ignore_errors=True)
            cached_folder(folder, lambda fresh: _write(fresh, config, ranks, parts or {}, kind=kind, dtype=dtype))
            make_room(self._root, limit_bytes=self._limit_bytes, keep=self._in_use)
        mark_used(files[0])
        return tuple(program_file(file) for file in files)


def part_of(
    config: Mapping[str, Any], ranks: Mapping[str, int], *, scope: Scope
) -> tuple[Mapping[str, Any], dict[str, int]]:
    """Config and ranks of the part loaded for a scope: one decoder layer for a block."""
    if scope == "model":
        return config, dict(ranks)
    if scope == "head":
        return no_layer(config), {}
    return one_layer(config), {first_layer(path): rank for path, rank in ranks.items()}


def _write(
    folder: Path,
    config: Mapping[str, Any],
    ranks: Mapping[str, int],
    parts: Mapping[str, Part],
    *,
    kind: AdapterKind,
    dtype: str,
) -> None:
    from adaptare.profiler.models.model_cache import without_bars
    from adaptare.profiler.models.random_model import random_model
    from adaptare.profiler.programs.torch.cut import merge, narrowed, random_sub_adapter

    model = random_model(config, dtype=dtype)
    adapter = random_sub_adapter(narrowed(model, parts), ranks, kind)
    merge(model, adapter.halves, kind=kind, parts=parts)
    with without_bars():
        model.save_pretrained(folder)
    # Written unchanged, independent of how this version of transformers normalises it.
    (folder / CONFIG).write_text(json.dumps(dict(config)), encoding="utf-8")
