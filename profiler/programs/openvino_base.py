"""Base models as graphs of OpenVINO in the cache."""

import importlib.metadata
import json
from pathlib import Path
from typing import Final

from adaptare.core.content_hash import content_hash
from adaptare.profiler.models.disk_cache import cache_folder, cache_limit_bytes, cached_folder, make_room, mark_used
from adaptare.profiler.models.model_source import ModelSource
from adaptare.profiler.models.stored_model import stored_model, weights_identity
from adaptare.profiler.workloads.shape import ModelShape

LAYOUT: Final = 1
# Names of optimum-intel, which OpenVINO GenAI reads.
GRAPH: Final = "openvino_model.xml"
WEIGHTS: Final = "openvino_model.bin"


def base_graph(
    shape: ModelShape, kind: str, *, cache: str | Path | None, weights: ModelSource | None = None
) -> tuple[Path, Path]:
    """Graph and weights of a model in the cache, written if necessary.

    Args:
        shape: The model.
        kind: Data type of its weights: `float32`, `float16`, or a quantisation.
        cache: Parent folder; default: the user's cache folder.
        weights: A model whose weights a graph of its shape has; others have random ones.
    """
    stored = weights.folder if weights and weights.shape.hash == shape.hash else None
    versions = [importlib.metadata.version(name) for name in ("torch", "transformers", "openvino")]
    key = content_hash([LAYOUT, *versions, shape.config, kind, weights_identity(stored) if stored else None])
    root = cache_folder(cache) / "openvino"
    files = root / key / GRAPH, root / key / WEIGHTS

    def write(folder: Path) -> None:
        from adaptare.profiler.models.random_model import random_model
        from adaptare.profiler.programs.openvino_graph import write_openvino_graph

        model = stored_model(stored) if stored else random_model(json.loads(shape.config))
        write_openvino_graph(model, folder / GRAPH, kind)

    cached_folder(files[0].parent, write)
    make_room(root, limit_bytes=cache_limit_bytes(), keep=files)
    for file in files:
        mark_used(file)
    return files
