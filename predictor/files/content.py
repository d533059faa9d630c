"""Content of the JSON file of a predictor, complete without the measurements and the base model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import DeviceInfo
from adaptare.predictor.base_curve import BaseCurve, at_length
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitted_predictor import FittedPredictor
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.intervals.session_spread import SessionSpread
from adaptare.predictor.regressor import Regressor, name_of
from adaptare.profiler import ModelShape, Workload

Arrays = Mapping[str, NDArray[Any]]
STATE = "state."
# Fields that are those of the predictor.
SAME = ("device", "chosen", "source", "level", "scale", "spread", "error_card", "workloads", "quantity", "unit")


@dataclass(frozen=True)
class Content:
    """Everything of a predictor except its arrays; see `FittedPredictor`.

    Args:
        arrays_sha256: Hash of the file of arrays.
        versions: Versions of the packages that wrote the file.
        shapes: Shapes of the workloads, by hash.
        template: Workload template at the longest length.
        base: Workload of the base.
        base_values: Value of the base at each fitted length, in the unit of the quantity.
        features: Unit of each feature, in their order.
        regressor: Name of the regressor's class.
        package: Package of that class.
    """

    arrays_sha256: str
    versions: Mapping[str, str]
    device: DeviceInfo
    shapes: Mapping[str, ModelShape]
    template: Mapping[str, Any]
    base: Mapping[str, Any]
    base_values: Mapping[int, float]
    chosen: str
    source: DeviceInfo | None
    level: float
    features: Mapping[str, str]
    regressor: str
    package: str
    scale: float
    spread: SessionSpread
    error_card: ErrorCard
    workloads: tuple[str, ...]
    quantity: str
    unit: str

    @classmethod
    def of(cls, predictor: FittedPredictor, *, arrays_sha256: str, versions: Mapping[str, str]) -> "Content":
        """Content of the file of a predictor."""
        made, template, base = type(predictor.regressor), predictor.features.template, predictor.base
        return cls(
            arrays_sha256=arrays_sha256,
            versions=versions,
            shapes={shape.hash: shape for shape in (template.shape, base.base.shape)},
            template=template.to_json(),
            base=base.base.to_json(),
            base_values=base.values,
            features=dict(zip(predictor.features.names, predictor.features.units, strict=True)),
            regressor=name_of(made),
            package=made.__module__.partition(".")[0],
            **{name: getattr(predictor, name) for name in SAME},
        )

    def predictor(self, arrays: Arrays, regressor: type[Regressor]) -> FittedPredictor:
        """The predictor with its arrays, see `arrays_of`.

        Raises:
            InputError: It was fitted on features that this version lacks.
            KeyError, TypeError, ValueError: The arrays are of another predictor.
        """
        template, base = (Workload.from_json(each, self.shapes[each["shape"]]) for each in (self.template, self.base))
        features = FeatureSet.named(template, self.features)
        if list(self.features.items()) != list(zip(features.names, features.units, strict=True)):
            raise InputError("the predictor was fitted on other features than this version has; fit it again")
        feature_range, residuals = arrays["feature_range"], arrays["residuals"]
        if feature_range.shape != (2, len(features.names)) or residuals.ndim != 1:
            raise ValueError(f"the arrays are not of {len(features.names)} features")
        state = {name.removeprefix(STATE): array for name, array in arrays.items() if name.startswith(STATE)}
        fitted = regressor.from_state(state)
        if fitted.predict(feature_range).shape != (2,):
            raise ValueError("the regressor does not predict one number for each row")
        return FittedPredictor(
            features=features,
            base=BaseCurve(at_length(base, template.length), self.base_values),
            regressor=fitted,
            residuals=residuals,
            feature_range=feature_range,
            length=template.length,
            **{name: getattr(self, name) for name in SAME},
        )


def arrays_of(predictor: FittedPredictor) -> dict[str, NDArray[Any]]:
    """Arrays of a predictor by name.

    Raises:
        InputError: The state of its regressor has something else than numbers and text.
    """
    arrays: dict[str, NDArray[Any]] = {"residuals": predictor.residuals, "feature_range": predictor.feature_range}
    arrays |= {f"{STATE}{name}": np.asarray(value) for name, value in predictor.regressor.state().items()}
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise InputError(f"the state of a regressor is arrays of numbers or text, and {objects[0]!r} holds objects")
    return arrays
