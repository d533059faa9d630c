"""Fitted model as JSON content plus arrays, complete without the measurements or the base model."""

import importlib.metadata
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.predictor.estimators.curve import Curve
from adaptare.predictor.features import FeatureSet, columns_of
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.fitting.fitted_model import FittedModel
from adaptare.predictor.intervals.session_spread import PRIOR, SessionSpread
from adaptare.profiler import Configuration, ModelShape, Workload, device_from_json, device_to_json

PACKAGES = ("adaptare", "numpy", "scikit-learn")
MAY_BE_NAN = ("kendall_tau", "mape_upper")
# Number of residuals that represent a half width.
STANDING_FOR = 99


def model_to_json(model: FittedModel) -> dict[str, Any]:
    """The model without its arrays."""
    shapes = (model.features.template.shape, model.reference.shape)
    card = asdict(model.error_card)
    return {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "device": device_to_json(model.device),
        "shapes": {shape.hash: asdict(shape) for shape in shapes},
        "template": model.features.template.to_json(),
        "reference": model.reference.to_json(),
        "reference_s": model.reference_s,
        "chosen": model.chosen,
        "source": device_to_json(model.source) if model.source else None,
        "level": model.level,
        "features": _feature_list(model.features),
        "session_spread": asdict(model.spread),
        # A rank correlation of equal values is nan, which JSON cannot represent.
        "error_card": {**card, **{name: None if math.isnan(card[name]) else card[name] for name in MAY_BE_NAN}},
        "workloads": list(model.workloads),
    }


def model_arrays(model: FittedModel) -> dict[str, NDArray[np.float64]]:
    """Arrays by name; those of each curve end in its number."""
    arrays = {
        "coefficients": model.coefficients,
        "intercept": np.array(model.intercept),
        "residuals": model.residuals,
        "feature_range": model.feature_range,
    }
    for number, curve in enumerate(model.curves):
        arrays |= {f"curve_{each.name}_{number}": np.asarray(getattr(curve, each.name)) for each in fields(Curve)}
    return arrays


def model_from_json(content: Mapping[str, Any], arrays: Mapping[str, NDArray[np.float64]]) -> FittedModel:
    """Inverse of `model_to_json` and `model_arrays`.

    Release 0.1.0 wrote `half_width` in place of `residuals`. Files without a session spread take the prior.

    Raises:
        InputError: The model was fitted on features that this version lacks.
        KeyError, TypeError, ValueError, AttributeError: The content is damaged.
    """
    shapes = {name: ModelShape(**sizes) for name, sizes in content["shapes"].items()}
    template, reference = (
        Workload.from_json(content[role], shapes[content[role]["shape"]]) for role in ("template", "reference")
    )
    narrower = [Configuration(widths=((0, 1),))] if {"name": "mlp_flops", "unit": "FLOP"} in content["features"] else []
    features = FeatureSet(template, columns_of(template, narrower))
    if content["features"] != _feature_list(features):
        raise InputError("the predictor was fitted on other features than this version has; fit it again")
    n_features = len(features.names)
    shapes_fit = arrays["coefficients"].shape == (n_features,) and arrays["feature_range"].shape == (2, n_features)
    residuals = (
        arrays["residuals"] if "residuals" in arrays else _residuals_of(float(arrays["half_width"]), content["level"])
    )
    if not shapes_fit or residuals.ndim != 1:
        raise ValueError(f"the arrays are not of {n_features} features")
    curves = tuple(_curve(number, arrays) for number in range(sum("curve_rows_" in name for name in arrays)))
    if any(curve.rows.shape != (len(curve.weights), n_features) for curve in curves):
        raise ValueError(f"a curve is not of {n_features} features")
    card = content["error_card"]
    return FittedModel(
        features=features,
        coefficients=arrays["coefficients"],
        intercept=float(arrays["intercept"]),
        residuals=residuals,
        level=float(content["level"]),
        feature_range=arrays["feature_range"],
        chosen=content["chosen"],
        source=device_from_json(content["source"]) if content.get("source") else None,
        curves=curves,
        reference=reference,
        reference_s=float(content["reference_s"]),
        device=device_from_json(content["device"]),
        workloads=tuple(content["workloads"]),
        error_card=ErrorCard(**{**card, **{name: math.nan for name in MAY_BE_NAN if card.get(name) is None}}),
        spread=(
            SessionSpread(**content["session_spread"])
            if "session_spread" in content
            else PRIOR.spread(np.full(card["sessions"], 1 / card["sessions"]))
        ),
    )


def _curve(number: int, arrays: Mapping[str, NDArray[np.float64]]) -> Curve:
    own = {each.name: arrays[f"curve_{each.name}_{number}"] for each in fields(Curve)}
    return Curve(**{name: float(array) if array.ndim == 0 else array for name, array in own.items()})  # type: ignore[arg-type]


def _residuals_of(half_width: float, level: float) -> NDArray[np.float64]:
    """Residuals, evenly spread to both sides, whose interval at a level has the given half width."""
    ranks = np.arange(1, STANDING_FOR + 1)
    residuals: NDArray[np.float64] = (-1.0) ** ranks * half_width / level * ranks / (STANDING_FOR + 1)
    return residuals


def _feature_list(features: FeatureSet) -> list[dict[str, str]]:
    return [{"name": name, "unit": unit} for name, unit in zip(features.names, features.units, strict=True)]
