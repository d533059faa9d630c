"""Fitted predictor as JSON content plus arrays, complete without the measurements or the base model."""

import importlib.metadata
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.features import FeatureSet, columns_of
from adaptare.predictor.fitted_predictor import FittedPredictor, Part
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.intervals.session_spread import PRIOR, SessionSpread
from adaptare.predictor.regressor import Regressor, name_of
from adaptare.profiler import Configuration, ModelShape, Workload
from adaptare.profiler.store.measurement import device_from_json, device_to_json

PACKAGES = ("adaptare", "numpy", "scikit-learn")
MAY_BE_NAN = ("kendall_tau", "mape_upper")
# Number of residuals that represent a half width.
STANDING_FOR = 99
Arrays = Mapping[str, NDArray[Any]]


def predictor_to_json(predictor: FittedPredictor) -> dict[str, Any]:
    """The predictor without its arrays."""
    shapes = (predictor.template.shape, predictor.reference.shape)
    card = asdict(predictor.error_card)
    return {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": device_to_json(predictor.device),
        "shapes": {shape.hash: asdict(shape) for shape in shapes},
        "template": predictor.template.to_json(),
        "reference": predictor.reference.to_json(),
        "reference_s": predictor.reference_s,
        "chosen": predictor.chosen,
        "source": device_to_json(predictor.source) if predictor.source else None,
        "level": predictor.level,
        "features": _feature_list(predictor.features),
        "parts": [_part_to_json(part) for part in predictor.parts],
        "session_spread": asdict(predictor.spread),
        # A rank correlation of equal values is nan, which JSON cannot represent.
        "error_card": {**card, **{name: None if math.isnan(card[name]) else card[name] for name in MAY_BE_NAN}},
        "workloads": list(predictor.workloads),
    }


def predictor_arrays(predictor: FittedPredictor) -> dict[str, NDArray[Any]]:
    """Arrays by name; the state of a regressor is named after the number of its part.

    Raises:
        InputError: The state of a regressor has something else than numbers and text.
    """
    arrays: dict[str, NDArray[Any]] = {"residuals": predictor.residuals, "feature_range": predictor.feature_range}
    for number, part in enumerate(predictor.parts):
        arrays |= {f"state.{number}.{name}": np.asarray(value) for name, value in part.regressor.state().items()}
        arrays |= {} if part.basis is None else {f"basis.{number}": part.basis}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise InputError(f"the state of a regressor is arrays of numbers or text, and {objects[0]!r} holds objects")
    return arrays


def predictor_from_json(
    content: Mapping[str, Any], arrays: Arrays, class_named: Callable[[str], type[Regressor]]
) -> FittedPredictor:
    """Inverse of `predictor_to_json` and `predictor_arrays`.

    Earlier versions wrote one fit, linear or curved, without naming its regressor, and release 0.1.0 `half_width` in
    place of `residuals`. Files without a session spread take the prior.

    Args:
        class_named: Finds the class of a regressor. Raises `InputError` if the name is unknown.

    Raises:
        InputError: The predictor was fitted on features that this version lacks, or by an unknown regressor.
        KeyError, TypeError, ValueError, AttributeError: The content is damaged.
    """
    shapes = {name: ModelShape(**sizes) for name, sizes in content["shapes"].items()}
    template, reference = (
        Workload.from_json(content[role], shapes[content[role]["shape"]]) for role in ("template", "reference")
    )
    names = [each["name"] for each in content["features"]]
    cuts = {"mlp_flops": Configuration(widths=((0, 1),)), "layers": Configuration(left_out=(0,))}
    features = FeatureSet(template, columns_of(template, [cut for name, cut in cuts.items() if name in names]))
    if content["features"] != _feature_list(features):
        raise InputError("the predictor was fitted on other features than this version has; fit it again")
    level, card, feature_range = float(content["level"]), content["error_card"], arrays["feature_range"]
    residuals = arrays["residuals"] if "residuals" in arrays else _residuals_of(float(arrays["half_width"]), level)
    if feature_range.shape != (2, len(features.names)) or residuals.ndim != 1:
        raise ValueError(f"the arrays are not of {len(features.names)} features")
    if "parts" in content:
        parts = tuple(_part(part, number, arrays, class_named) for number, part in enumerate(content["parts"]))
    else:
        parts = (Part(Curved.from_state(arrays)),)
    if any(part.ratios(feature_range).shape != (2,) for part in parts):
        raise ValueError("a regressor does not predict one number for each row")
    return FittedPredictor(
        device=device_from_json(content["device"]),
        features=features,
        parts=parts,
        reference=reference,
        reference_s=float(content["reference_s"]),
        residuals=residuals,
        level=level,
        spread=(
            SessionSpread(**content["session_spread"])
            if "session_spread" in content
            else PRIOR.spread(np.full(card["sessions"], 1 / card["sessions"]))
        ),
        feature_range=feature_range,
        chosen=content["chosen"],
        error_card=ErrorCard(**{**card, **{name: math.nan for name in MAY_BE_NAN if card.get(name) is None}}),
        workloads=tuple(content["workloads"]),
        source=device_from_json(content["source"]) if content.get("source") else None,
    )


def _part_to_json(part: Part) -> dict[str, Any]:
    made = type(part.regressor)
    return {"regressor": name_of(made), "package": made.__module__.partition(".")[0], "share": part.share}


def _part(
    content: Mapping[str, Any], number: int, arrays: Arrays, class_named: Callable[[str], type[Regressor]]
) -> Part:
    prefix = f"state.{number}."
    state = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    regressor = class_named(content["regressor"]).from_state(state)
    return Part(regressor, float(content["share"]), arrays.get(f"basis.{number}"))


def _residuals_of(half_width: float, level: float) -> NDArray[np.float64]:
    """Residuals, evenly spread to both sides, whose interval at a level has the given half width."""
    ranks = np.arange(1, STANDING_FOR + 1)
    residuals: NDArray[np.float64] = (-1.0) ** ranks * half_width / level * ranks / (STANDING_FOR + 1)
    return residuals


def _feature_list(features: FeatureSet) -> list[dict[str, str]]:
    return [{"name": name, "unit": unit} for name, unit in zip(features.names, features.units, strict=True)]
