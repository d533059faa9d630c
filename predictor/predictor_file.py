"""Predictors on disk: a JSON file, complete without the measurements and the base, and an NPZ file of arrays.

Loading executes no code.
"""

import hashlib
import importlib.metadata
import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError, StorageError
from adaptare.core.codec import from_json, to_json
from adaptare.core.strict_json import MOST_BYTES
from adaptare.core.versioned_json import read_versioned
from adaptare.core.whole_file import write_together, write_whole
from adaptare.devices import DeviceInfo
from adaptare.predictor.base_curve import BaseCurve, at_length
from adaptare.predictor.estimators.anchored import Anchored
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitted_predictor import FittedPredictor
from adaptare.predictor.fitting.training_rows import differences
from adaptare.predictor.regressor import Regressor, name_of, registered_class
from adaptare.profiler import ModelShape, Workload
from adaptare.profiler.measuring import unit_of

T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]
# Prefix of the arrays of a regressor.
STATE = "state."
# Incremented when the files change or a feature of the same name is computed differently.
SCHEMA = 5
PACKAGES = ("adaptare", "numpy", "scikit-learn")
NAME_IN_FOLDER = "predictor"
SPREADS = ("spread", "base_spread")
DAMAGE = (KeyError, TypeError, ValueError, AttributeError, EOFError, OSError)
# Of archives that claim a later version, another compression, encryption or more values than they have.
BROKEN_ARCHIVE = (zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError)
# Fields of a predictor that the JSON file has as they are.
SAME = (
    *("device", "chosen", "source", "level", "scale", "spread", "base_spread", "error_card", "workloads", "quantity"),
    "unit",
)


def save_predictor(predictor: FittedPredictor, path: str | Path) -> tuple[Path, Path]:
    """Writes `path`.json and `path`.npz, or both as `predictor` into `path` if it is a folder. Returns their paths.

    Both are written before the first is replaced, each atomically, and the JSON file holds the hash of the NPZ file, so
    that mismatched files are detected. Earlier arrays stay until both are replaced, so that a process that is killed in
    between leaves a complete predictor, the earlier or the new one.

    Raises:
        StorageError: The folder cannot be written.
        InputError: The state of its regressor has something else than numbers and text, or the predictor was changed
            by `at`, `recalibrated` or `relative`.
    """
    text, binary = files_of(path)
    if (predictor.length, predictor.base_at, predictor.of_ratio) != (predictor.features.template.length, None, False):
        raise InputError(
            "a predictor at another length, recalibrated or of ratios is not saved; save the one that was fitted, and "
            "ask it for these after loading"
        )
    buffer = io.BytesIO()
    np.savez(buffer, **_arrays_of(predictor))  # type: ignore[arg-type]  # it has other keywords in some versions
    arrays = buffer.getvalue()
    made, template, base = type(predictor.regressor.fitted), predictor.features.template, predictor.base
    content = {
        "schema": SCHEMA,
        "arrays_sha256": _digest(arrays),
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "shapes": {shape.hash: shape for shape in (template.shape, base.base.shape)},
        "template": template,
        "base": base.base,
        "base_values": base.values,
        "features": predictor.features.units,
        "regressor": name_of(made),
        "package": made.__module__.partition(".")[0],
        **{name: getattr(predictor, name) for name in SAME},
    }
    try:
        if binary.exists():
            write_whole(_earlier(binary), binary.read_bytes())
        write_together({binary: arrays, text: json.dumps(to_json(content), indent=1, allow_nan=False)})
        _earlier(binary).unlink(missing_ok=True)
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
        InputError: The files cannot be read, are damaged, of another version, of another device, or of a regressor
            that is neither registered nor given.
    """
    text, binary = files_of(path)
    otherwise = f"no predictor can be read from {str(text)!r}; fit one"
    content = read_versioned(text, schema=SCHEMA, otherwise=otherwise)
    try:
        arrays = binary.read_bytes()
        if content.get("arrays_sha256") != _digest(arrays) and _earlier(binary).exists():
            arrays = _earlier(binary).read_bytes()
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


def _arrays_of(predictor: FittedPredictor) -> Arrays:
    arrays = {f"{STATE}{name}": np.asarray(value) for name, value in predictor.regressor.fitted.state().items()}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise InputError(f"the state of a regressor is arrays of numbers or text, and {objects[0]!r} holds objects")
    own = {name: getattr(predictor, name) for name in ("residuals", "feature_range")}
    return {**own, "largest": predictor.regressor.largest, **arrays}


def _predictor(
    content: Mapping[str, Any], arrays: bytes, text: Path, regressor: type[Regressor] | None
) -> FittedPredictor:
    try:
        kept = _arrays_in(arrays)
        if "largest" not in kept:
            raise InputError("an earlier version wrote it; fit one to the measurements again")
        named = regressor if regressor and name_of(regressor) == content["regressor"] else _registered(content)
        return _read(content, kept, named)
    except InputError as error:
        raise InputError(f"{str(text)!r} cannot be used: {error}") from error
    except DAMAGE as error:
        raise InputError(f"{str(text)!r} is damaged ({error!r}); fit the predictor and save it again") from error


def _arrays_in(content: bytes) -> Arrays:
    """Arrays of an NPZ file. Raises `InputError` or one of `DAMAGE`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            if sum(each.file_size for each in packed.infolist()) > MOST_BYTES:
                raise InputError(f"its arrays have more than {MOST_BYTES // 2**20} MiB")
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            return dict(loaded)
    except BROKEN_ARCHIVE as error:
        raise ValueError(f"its arrays cannot be read: {error}") from error


def _registered(content: Mapping[str, Any]) -> type[Regressor]:
    name = from_json(str, content["regressor"], where="regressor")
    try:
        return registered_class(name)
    except InputError as error:
        raise InputError(
            f"{error}; install the package {content['package']}, or hand the class over: "
            f"load_predictor(path, regressor={name})"
        ) from error


def _read(content: Mapping[str, Any], arrays: Arrays, regressor: type[Regressor]) -> FittedPredictor:
    """The predictor in the files. Raises `InputError` or one of `DAMAGE`."""

    def part(name: str, kind: type[T]) -> T:
        return from_json(kind, content[name], where=name)

    shapes, units = part("shapes", dict[str, ModelShape]), part("features", dict[str, str])
    written = [part(name, dict[str, Any]) for name in ("template", "base")]
    template, base = (Workload.from_json(each, shapes[each["shape"]]) for each in written)
    features = FeatureSet.named(template, units)
    if list(units.items()) != list(features.units.items()):
        raise InputError("the predictor was fitted on other features than this version has; fit it again")
    feature_range, residuals, largest = (arrays[name] for name in ("feature_range", "residuals", "largest"))
    if feature_range.shape != (2, len(features.names)) or residuals.ndim != 1 or largest.size not in (0, len(units)):
        raise ValueError(f"the arrays are not of {len(features.names)} features")
    state = {name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)}
    fitted = regressor.from_state(state)
    if fitted.predict(feature_range).shape != (2,):
        raise ValueError("the regressor does not predict one number for each row")
    hints = get_type_hints(FittedPredictor)
    own: dict[str, Any] = {name: part(name, hints[name]) for name in SAME}
    _check_numbers(own, residuals, feature_range)
    return FittedPredictor(
        features=features,
        base=BaseCurve(at_length(base, template.length), part("base_values", dict[int, float])),
        regressor=Anchored.of(fitted, largest),
        residuals=residuals,
        feature_range=feature_range,
        length=template.length,
        **own,
    )


def _check_numbers(own: Mapping[str, Any], residuals: NDArray[Any], feature_range: NDArray[Any]) -> None:
    """Raises `InputError` for a number that would make intervals wrong."""
    spreads = {f"{name}.{end}": getattr(own[name], end) for name in SPREADS for end in ("scale", "degrees")}
    if not 0 < own["level"] < 1:
        raise InputError(f"level must lie between 0 and 1, not {own['level']}")
    if not 0 < own["scale"] < math.inf:
        raise InputError(f"scale must be a finite number above 0, not {own['scale']}")
    if wrong := [name for name, value in spreads.items() if not value >= 0 or (".s" in name and value == math.inf)]:
        raise InputError(f"{wrong[0]} must be a finite number of 0 or more, not {spreads[wrong[0]]}")
    if own["unit"] != unit_of(own["quantity"]):
        raise InputError(f"unit must be {unit_of(own['quantity'])}, that of {own['quantity']}, not {own['unit']!r}")
    if not (np.isfinite(residuals).all() and np.isfinite(feature_range).all()):
        raise InputError("its arrays have NaN or infinite values")


def files_of(path: str | Path) -> tuple[Path, Path]:
    """The JSON and the NPZ file of a predictor that is named by either, by both without suffix, or by their folder."""
    base = Path(path)
    if base.is_dir():
        base = base / NAME_IN_FOLDER
    name = base.name.removesuffix(".json").removesuffix(".npz")
    return base.with_name(f"{name}.json"), base.with_name(f"{name}.npz")


def _earlier(binary: Path) -> Path:
    """Arrays of the predictor that is being replaced."""
    return binary.with_name(f".{binary.name}.earlier")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
