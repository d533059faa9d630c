"""Adapter files of ONNX Runtime: named tensors that are passed to the graph inputs of the same names."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from adaptare.core import MissingPackageError

# For users that version their adapters; ONNX Runtime does not check either number.
ADAPTER_VERSION = MODEL_VERSION = 1


def write_onnx_adapter(tensors: Mapping[str, NDArray[np.float32]], file: Path) -> None:
    """Writes a file for `onnxruntime.LoraAdapter`.

    Args:
        tensors: Name of an input of the graph -> its value.
        file: Target; by convention it ends in `.onnx_adapter`.

    Raises:
        MissingPackageError: onnxruntime is not installed.
    """
    onnxruntime = _onnxruntime()
    values = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()
    }
    content = onnxruntime.AdapterFormat()
    content.set_adapter_version(ADAPTER_VERSION)
    content.set_model_version(MODEL_VERSION)
    content.set_parameters(values)
    content.export_adapter(str(file))


def _onnxruntime() -> ModuleType:
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(
            "adapters for ONNX Runtime need onnxruntime; install with: pip install 'adaptare[torch,onnx]'"
        ) from error
    module: ModuleType = onnxruntime
    return module
