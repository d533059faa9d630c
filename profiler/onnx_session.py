"""Sessions in this process: to see what a graph computes, and to pack weights; nothing is timed here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def run_model(file: Path, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """All outputs of a graph, as it stands in the file: not optimised, weights not packed."""
    session = _session(file, {"session.disable_prepacking": "1"})
    outputs: list[NDArray[np.float32]] = session.run(None, dict(inputs))
    return outputs


def pack(source: Path, target: Path) -> None:
    """Writes the same graph with its weights as the kernels of this processor lay them out, beside the plain ones.

    Whoever loads the file maps packed weights instead of packing them into memory of their own: sessions start in a
    fifth of the time, share one copy, and read the same bytes, so that they are equally fast.

    Args:
        source: The graph.
        target: The new one; its data lie beside it under the same name with `.data` behind it, first what calls read.
    """
    from adaptare.profiler.onnx_layout import read_first

    entries = {
        "session.save_external_prepacked_constant_initializers": "1",
        "session.optimized_model_external_initializers_file_name": f"{target.name}.data",
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
    }
    _session(source, entries, written_to=target)
    read_first(target)


def _session(file: Path, entries: Mapping[str, str], *, written_to: Path | None = None) -> Any:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    if written_to:
        options.optimized_model_filepath = str(written_to)
    for name, value in entries.items():
        options.add_session_config_entry(name, value)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
