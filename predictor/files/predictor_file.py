"""Predictors on disk: a JSON file and an NPZ file of arrays; loading executes no code."""

import hashlib
import importlib.metadata
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from adaptare.core import InputError, StorageError
from adaptare.core.codec import from_json, to_json
from adaptare.core.versioned_json import read_versioned
from adaptare.core.whole_file import write_together
from adaptare.devices import DeviceInfo
from adaptare.predictor.files.content import Arrays, Content, arrays_of
from adaptare.predictor.files.earlier import upgraded
from adaptare.predictor.fitted_predictor import FittedPredictor
from adaptare.predictor.fitting.training_rows import differences
from adaptare.predictor.regressor import Regressor, name_of, registered_class

# Incremented when the files change or a feature of the same name is computed differently.
SCHEMA = 4
PACKAGES = ("adaptare", "numpy", "scikit-learn")
NAME_IN_FOLDER = "predictor"
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, EOFError, OSError, zipfile.BadZipFile)


def save_predictor(predictor: FittedPredictor, path: str | Path) -> tuple[Path, Path]:
    """Writes `path`.json and `path`.npz, or both as `predictor` into `path` if it is a folder.

    Both are written before the first is replaced, each atomically, and the JSON file holds the hash of the NPZ file, so
    that mismatched files are detected.

    Returns:
        Paths of the two files.

    Raises:
        StorageError: The folder cannot be written.
        InputError: The state of its regressor has something else than numbers and text.
    """
    text, binary = _files(path)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays_of(predictor))  # type: ignore[arg-type]  # it has other keywords in some versions
    arrays = buffer.getvalue()
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    content = Content.of(predictor, arrays_sha256=_digest(arrays), versions=versions)
    written = {"schema": SCHEMA, **to_json(content)}
    try:
        write_together({binary: arrays, text: json.dumps(written, indent=1, allow_nan=False)})
    except OSError as error:
        raise StorageError(f"the predictor cannot be written to {str(text)!r}: {error.strerror}") from error
    return text, binary


def load_predictor(
    path: str | Path, *, device: DeviceInfo | None = None, regressor: type[Regressor] | None = None
) -> FittedPredictor:
    """Reads the files of `save_predictor`; predictions are exactly as before.

    Args:
        path: As passed to `save_predictor`, or either of the two files.
        device: The device the predictions are for; None accepts the predictor of any device.
        regressor: Class of the regressor, if no installed package registers it.

    Raises:
        InputError: The files cannot be read, are damaged, of a newer version, of another device, or of a regressor
            that is neither registered nor given.
    """
    text, binary = _files(path)
    otherwise = f"no predictor can be read from {str(text)!r}; fit one"
    content = read_versioned(text, schema=SCHEMA, otherwise=otherwise)
    try:
        arrays = binary.read_bytes()
    except OSError as error:
        raise InputError(f"no predictor can be read from {str(binary)!r}: {error.strerror}") from error
    if content.get("arrays_sha256") != _digest(arrays):
        raise InputError(f"{str(binary)!r} is damaged or belongs to another predictor; fit and save it again")
    predictor = _predictor(content, arrays, text, regressor)
    if device is not None and device != predictor.device:
        raise InputError(
            f"{str(text)!r} predicts another device than this one: {differences(device, predictor.device)}; "
            "profile this device and fit a predictor for it; 10 to 20 rows do if the fit starts from this predictor"
        )
    return predictor


def _predictor(
    content: dict[str, Any], arrays: bytes, text: Path, regressor: type[Regressor] | None
) -> FittedPredictor:
    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as loaded:
            kept: Arrays = dict(loaded)
        if "reference" in content:  # a file of an earlier version
            content, kept = upgraded(content, kept)
        read = from_json(Content, content)
        named = regressor if regressor and name_of(regressor) == read.regressor else _registered(read)
        return read.predictor(kept, named)
    except InputError as error:
        raise InputError(f"{str(text)!r} cannot be used: {error}") from error
    except DAMAGE as error:
        raise InputError(f"{str(text)!r} is damaged ({error!r}); fit the predictor and save it again") from error


def _registered(content: Content) -> type[Regressor]:
    try:
        return registered_class(content.regressor)
    except InputError as error:
        raise InputError(
            f"{error}; install the package {content.package}, or hand the class over: "
            f"load_predictor(path, regressor={content.regressor})"
        ) from error


def _files(path: str | Path) -> tuple[Path, Path]:
    base = Path(path)
    if base.is_dir():
        base = base / NAME_IN_FOLDER
    name = base.name.removesuffix(".json").removesuffix(".npz")
    return base.with_name(f"{name}.json"), base.with_name(f"{name}.npz")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
