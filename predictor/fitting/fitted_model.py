"""State of a fitted predictor, as saved, loaded and evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import DeviceInfo
from adaptare.predictor.estimators.corrected import bounded
from adaptare.predictor.estimators.curve import Curve
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.intervals.conformal import conformal_half_width, relevel
from adaptare.predictor.intervals.session_spread import SessionSpread
from adaptare.predictor.prediction import Prediction
from adaptare.profiler import Workload

# Extension of the profiled range of a feature, as a share of the range, that still counts as inside: new configs, drawn
# like 24 profiled ones, lie outside the exact range of one of 17 features in 24 % of cases, with this slack in 3 %.
RANGE_SLACK = 0.25
# Relative rounding error of a bound that was computed in two ways.
ROUNDING = 1e-9
INTERPOLATED = "interpolated"


@dataclass(frozen=True, eq=False)
class FittedModel:
    """Model of the ratio to the reference, linear or curved, with its interval and provenance.

    Args:
        features: Features of the linear part, with the workload template.
        coefficients: Ratio per unit of each feature. Shape (n_features,).
        intercept: Ratio without adapter.
        residuals: Errors of held-out rows, relative to their prediction. Shape (n_residuals,).
        level: Coverage probability of the interval.
        feature_range: Smallest and largest profiled value. Shape (2, n_features).
        chosen: Name of the chosen candidate: `shrunken`, `transferred`, or a simpler or better one; or
            `interpolated` from the models of two lengths.
        reference: Workload in the denominator of the ratio.
        reference_s: Latency of the reference, seconds.
        device: The measured device.
        workloads: Hash of each training row's workload.
        error_card: Prediction errors.
        spread: Shift of a new session, which the residuals do not contain.
        source: The device from which the coefficients were transferred, if any.
        curves: Curves over the features; the linear ratio is multiplied by the exponential of their sum.
    """

    features: FeatureSet
    coefficients: NDArray[np.float64] = field(repr=False)
    intercept: float
    residuals: NDArray[np.float64] = field(repr=False)
    level: float
    feature_range: NDArray[np.float64] = field(repr=False)
    chosen: str
    reference: Workload
    reference_s: float
    device: DeviceInfo
    workloads: tuple[str, ...] = field(repr=False)
    error_card: ErrorCard
    spread: SessionSpread
    source: DeviceInfo | None = None
    curves: tuple[Curve, ...] = field(default=(), repr=False)

    @property
    def origin(self) -> str:
        """`predicted`, or any of `interpolated`, `transferred`, and `composed` if some rows were."""
        ways = {
            INTERPOLATED: self.chosen == INTERPOLATED,
            "transferred": self.source is not None,
            "composed": self.error_card.composed > 0,
        }
        return ", ".join(way for way, so in ways.items() if so) or "predicted"

    def prices_s(self, names: Sequence[str]) -> tuple[float, ...]:
        """Seconds per unit of each named feature; 0 for a kind of linear that this base lacks.

        For a curved model, those of its linear part: knees are specific to one device.

        Features are physical, so prices are comparable across devices, runtimes and model sizes.
        """
        seconds = dict(zip(self.features.names, self.coefficients * self.reference_s, strict=True))
        return tuple(float(seconds.get(name, 0.0)) for name in names)

    @cached_property
    def half_width(self) -> float:
        """Half-width of the interval for a row of a new session, relative to the predicted ratio."""
        return self.spread.widened(conformal_half_width(self.residuals, level=self.level), self.level)

    def probability_within(self, codes: NDArray[np.int64], budget_s: float) -> NDArray[np.float64]:
        """Probability that the latency of a config is within the budget; shape (n, n_columns) -> (n,).

        Assumes a residual exchangeable with those of held-out rows, plus the shift of a new session: if k of n
        residuals are within the budget without a shift, the probability is at least k / (n + 1).
        """
        slack = budget_s / self.predict(codes).mean_s - 1
        below = self.spread.probability_below(slack[:, None] - self.residuals).sum(axis=1)
        probability: NDArray[np.float64] = below / (len(self.residuals) + 1)
        return probability

    def relevelled(self, codes: NDArray[np.int64], ratios: NDArray[np.float64]) -> "FittedModel":
        """Model for a session whose shift is known from references measured in it; see `relevel`.

        Args:
            codes: Codes of the references. Shape (n, n_columns).
            ratios: Ratios measured in the session, over its reference. Shape (n,).
        """
        predicted = self.predict(codes).mean_s / self.reference_s
        scale = relevel(ratios, predicted, level=self.level).scale
        residuals = ratios / (scale * predicted) - 1
        return replace(
            self,
            coefficients=scale * self.coefficients,
            intercept=scale * self.intercept,
            residuals=residuals,
            spread=SessionSpread(0.0),
        )

    def predict(self, codes: NDArray[np.int64]) -> Prediction:
        """Latency of configs, shape (n, n_columns), columns as `features.columns`."""
        X = self.features.matrix(codes)
        mean_s = (X @ self.coefficients + self.intercept) * self.reference_s
        if self.curves:
            mean_s *= bounded(np.sum([curve(X) for curve in self.curves], axis=0))
        lowest, highest = self.feature_range
        slack = RANGE_SLACK * np.maximum(highest - lowest, 0.0) + ROUNDING * np.abs(highest)
        beyond = np.maximum(lowest - X, X - highest)
        return Prediction(
            mean_s=mean_s,
            lower_s=mean_s * max(0.0, 1 - self.half_width),
            upper_s=mean_s * (1 + self.half_width),
            extrapolates=(beyond > slack).any(axis=1),
        )
