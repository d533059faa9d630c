"""Adapters as ONNX Runtime reads them: a file of named tensors that are fed to the inputs of these names."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError, MissingPackageError

# Numbers for whoever keeps several generations of adapters apart; ONNX Runtime compares neither with anything.
ADAPTER_VERSION = MODEL_VERSION = 1


def write_onnx_adapter(tensors: Mapping[str, NDArray[np.float32]], file: Path) -> None:
    """Writes what `onnxruntime.LoraAdapter` loads.

    Args:
        tensors: Name of an input of the graph -> its value.
        file: Ends in `.onnx_adapter` by custom.

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


def read_onnx_adapter(file: Path) -> dict[str, NDArray[np.float32]]:
    """Name of an input -> its value.

    Raises:
        InputError: The file is none that ONNX Runtime reads.
        MissingPackageError: onnxruntime is not installed.
    """
    onnxruntime = _onnxruntime()
    try:
        content = onnxruntime.AdapterFormat.read_adapter(str(file))
        return {name: np.array(value.numpy()) for name, value in content.get_parameters().items()}
    except Exception as error:  # ONNX Runtime raises its own kinds, which have no common root
        raise InputError(f"{str(file)!r} is no adapter of ONNX Runtime: {error}") from error


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
