"""Predictors on disk: a JSON file and an NPZ file of arrays; loading executes no code."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.devices import DeviceInfo, InputError, StorageError, read_versioned, write_together
from adaptare.predictor.files.model_json import model_arrays, model_from_json, model_to_json
from adaptare.predictor.fitting.fitted_model import FittedModel
from adaptare.predictor.fitting.training_rows import differences
from adaptare.predictor.latency_predictor import LatencyPredictor

# Incremented when the files change or a feature of the same name is computed differently.
SCHEMA = 2
NAME_IN_FOLDER = "predictor"
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, EOFError, OSError, zipfile.BadZipFile)


def save_predictor(predictor: LatencyPredictor, path: str | Path) -> tuple[Path, Path]:
    """Writes `path`.json and `path`.npz, or both as `predictor` into `path` if it is a folder.

    Both are written before the first is replaced, each atomically, and the JSON file holds the hash of the NPZ file, so
    that mismatched files are detected.

    Returns:
        Paths of the two files.

    Raises:
        StorageError: The folder cannot be written.
        InputError: The predictor is not fitted.
    """
    text, binary = _files(path)
    model = predictor.model
    buffer = io.BytesIO()
    np.savez(buffer, **model_arrays(model))  # type: ignore[arg-type]  # it has other keywords in some versions
    arrays = buffer.getvalue()
    content = {"schema": SCHEMA, "arrays_sha256": _digest(arrays), **model_to_json(model)}
    try:
        write_together({binary: arrays, text: json.dumps(content, indent=1, allow_nan=False)})
    except OSError as error:
        raise StorageError(f"the predictor cannot be written to {str(text)!r}: {error.strerror}") from error
    return text, binary


def load_predictor(path: str | Path, *, device: DeviceInfo | None = None) -> LatencyPredictor:
    """Reads the files of `save_predictor`; predictions are exactly as before.

    Args:
        path: As passed to `save_predictor`, or either of the two files.
        device: The device the predictions are for; None accepts the predictor of any device.

    Raises:
        InputError: The files cannot be read, are damaged, of a newer version, or of another device.
    """
    text, binary = _files(path)
    otherwise = f"no predictor can be read from {str(text)!r}; make one with: adaptare fit"
    content = read_versioned(text, schema=SCHEMA, otherwise=otherwise)
    try:
        arrays = binary.read_bytes()
    except OSError as error:
        raise InputError(f"no predictor can be read from {str(binary)!r}: {error.strerror}") from error
    if content.get("arrays_sha256") != _digest(arrays):
        raise InputError(f"{str(binary)!r} is damaged or belongs to another predictor; fit and save it again")
    model = _model(content, arrays, text)
    if device is not None and device != model.device:
        raise InputError(
            f"{str(text)!r} predicts another device than this one: {differences(device, model.device)}; "
            "profile this device and fit a predictor for it; 10 to 20 rows do with: adaptare fit --from"
        )
    return LatencyPredictor.from_model(model)


def _model(content: dict[str, Any], arrays: bytes, text: Path) -> FittedModel:
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as loaded:
            return model_from_json(content, dict(loaded))
    except InputError as error:
        raise InputError(f"{str(text)!r} cannot be used: {error}") from error
    except DAMAGE as error:
        raise InputError(f"{str(text)!r} is damaged ({error!r}); fit the predictor and save it again") from error


def _files(path: str | Path) -> tuple[Path, Path]:
    base = Path(path)
    if base.is_dir():
        base = base / NAME_IN_FOLDER
    name = base.name.removesuffix(".json").removesuffix(".npz")
    return base.with_name(f"{name}.json"), base.with_name(f"{name}.npz")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
