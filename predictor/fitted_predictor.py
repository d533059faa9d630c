"""Fitted predictor of one device: what `LatencyPredictor.fit` and `load_predictor` return."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import DeviceInfo
from adaptare.predictor.base_curve import BaseCurve, at_length
from adaptare.predictor.estimators.anchored import Anchored
from adaptare.predictor.features import ADAPTER_FLOPS, MODEL_FLOPS, FeatureSet
from adaptare.predictor.fitting.cross_validation import ErrorCard
from adaptare.predictor.intervals import (
    NO_SPREAD,
    SessionSpread,
    conformal_half_width,
    spread_since,
)
from adaptare.predictor.regressor import LinearRegressor
from adaptare.profiler import Configuration, Workload
from adaptare.profiler.analysis import LEAST_OPENINGS, Interval, too_few
from adaptare.profiler.store import LATENCY
from adaptare.profiler.workloads import Dimension

Array = NDArray[np.float64]
# Extension of the profiled range of a feature, as a share of the range, that still counts as inside: new configs, drawn
# like 24 profiled ones, lie outside the exact range of one of 17 features in 24 % of cases, with this slack in 3 %.
RANGE_SLACK = 0.25
# Relative rounding error of a bound that was computed in two ways.
ROUNDING = 1e-9
INTERPOLATED = "interpolated"


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted values of n configurations and the ends of their intervals, in the predictor's unit. Shape (n,) each.

    The intervals are of values in a new session, whose base differs from the calibrated one (after
    `FittedPredictor.recalibrated` in the present session), or with `FittedPredictor.relative` of ratios to the base,
    times its calibrated value. They are of the value itself; a
    measurement has an error of its own beside it. `upper` is the end that must meet a budget. `extrapolates` is true
    for a configuration outside the profiled range, where the interval is not valid.
    """

    mean: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    extrapolates: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.mean)

    def interval(self, row: int) -> Interval:
        """Predicted value of one configuration."""
        return Interval(float(self.lower[row]), float(self.mean[row]), float(self.upper[row]))


@dataclass(frozen=True, eq=False)
class FittedPredictor:
    """Predictor of one device, for workloads that differ only in ranks, widths, depth and length.

    A prediction is the predicted ratio to the base times the base's calibrated seconds at `length`.

    Args:
        features: Features of a configuration, with the workload template at the longest fitted length.
        base: Latency of the reference (the workload in the denominator of the ratio) over the length.
        regressor: Regressor of the ratio to the reference; see `relative_features`.
        residuals: Logarithms of measured over predicted of held-out rows, over the scale of their errors and without
            measurement error; see `Anchored.change` and `without_noise`. Shape (n_residuals,).
        level: Coverage probability of the interval.
        spread: Shift of the ratios of a new session, over that scale, which the residuals do not contain.
        base_spread: Shift of the base's value in a new session, or in the rest of the present one; see `recalibrated`.
        feature_range: Smallest and largest profiled value at the longest length. Shape (2, n_features).
        chosen: Name of the fit: `shrunken`, `transferred`, a simpler or better one, or the one that was asked for.
        error_card: Errors on held-out adapters.
        workloads: Hash of each training row's workload.
        length: Tokens of prefill, or cached positions of decode, of the predictions; see `at`.
        base_at: Length at which the base was measured in the present session, if it was; see `recalibrated`.
        of_ratio: True if intervals are those of the ratio to the base; see `relative`.
        scale: Factor on the predicted ratio.
        quantity: The predicted quantity, in its SI `unit`.
        source: The device from which coefficients were transferred, if any.
        reason: Reason for the choice, one sentence; empty for a loaded predictor, because files do not keep rows.
        rows: See `left_out`; `None` for a loaded predictor.
    """

    device: DeviceInfo
    features: FeatureSet
    base: BaseCurve
    regressor: Anchored = field(repr=False)
    residuals: Array = field(repr=False)
    level: float
    spread: SessionSpread
    base_spread: SessionSpread
    feature_range: Array = field(repr=False)
    chosen: str
    error_card: ErrorCard
    workloads: tuple[str, ...] = field(repr=False)
    length: int
    base_at: int | None = None
    of_ratio: bool = False
    scale: float = 1.0
    quantity: str = LATENCY
    unit: str = "s"
    source: DeviceInfo | None = None
    reason: str = field(default="", repr=False)
    rows: tuple[Array, Array, Array, Array] | None = field(default=None, repr=False)

    def at(self, length: int) -> "FittedPredictor":
        """Predictor for a length between the fitted ones. Raises `InputError` for any other length."""
        self.base.at(length)
        return replace(self, length=length)

    def predict(self, values: NDArray[np.int64], dimensions: Sequence[Dimension] | None = None) -> Prediction:
        """Latency of configurations given as values of dimensions, such as ranks and widths.

        Args:
            values: Shape (n, n_dimensions); rank 0 = no adapter.
            dimensions: Meaning of the columns, as `Space.dimensions`; default: `self.dimensions`. The others are as in
                the base.

        Raises:
            InputError: The dimensions do not allow these values, or the predictor lacks one of them.
        """
        values = np.asarray(values)
        values = values if dimensions is None else self.features.spread(values, dimensions)
        X, here = self.features.matrix(values), self._relative(values)
        mean = self._ratios(here) * self.base_value
        half_width = self._half_widths(here)
        lowest, highest = self.feature_range
        slack = RANGE_SLACK * np.maximum(highest - lowest, 0.0) + ROUNDING * np.abs(highest)
        beyond = np.maximum(lowest - X, X - highest)
        return Prediction(
            mean=mean,
            lower=mean * np.exp(-half_width),
            upper=mean * np.exp(half_width),
            extrapolates=(beyond > slack).any(axis=1),
        )

    def predict_configs(self, configs: Sequence[Configuration]) -> Prediction:
        """Latency of configurations, in their order. Raises `InputError` if one does not fit the base model."""
        return self.predict(self.features.values([config.on(self.template.shape) for config in configs]))

    def probability_within(self, configs: Sequence[Configuration], limit: float) -> Array:
        """Probability that each configuration's value is within a limit; of a ratio, see `relative`. Shape (n,).

        Assumes a residual exchangeable with those of held-out rows, plus the shift of a new session: if k of n
        residuals are within the limit without a shift, the probability is at least k / (n + 1).
        """
        values = self.features.values([config.on(self.template.shape) for config in configs])
        here = self._relative(values)
        change = self.regressor.change(here)
        slack = np.log(limit / (self._ratios(here) * self.base_value))
        below = self._shift(here).probability_below(slack - self.residuals[:, None] * change).sum(axis=0)
        probability: Array = below / (len(self.residuals) + 1)
        return probability

    def recalibrated(self, base: Interval, openings: int) -> "FittedPredictor":
        """Predictor for the session in which the base was just measured, at this length.

        Intervals in seconds then contain the error of that measurement and the drift within a session, instead of the
        spread between sessions; those of `relative` stay as they are. Other lengths are scaled by the same factor.

        Args:
            base: Measured value of `reference`, in the unit of the predictions, with its 95 % interval.
            openings: Fresh loads of the program that the interval is over.

        Raises:
            InputError: The openings are too few for an interval.
        """
        if too_few(openings):
            raise InputError(f"calibration needs at least {LEAST_OPENINGS} openings of the base, not {openings}")
        factor = base.middle / self.base_value
        values = {length: value * factor for length, value in self.base.values.items()}
        spread = self.base_spread if self.base_spread == NO_SPREAD else spread_since(base, openings)
        return replace(self, base=replace(self.base, values=values), base_spread=spread, base_at=self.length)

    def prices_s(self, names: Sequence[str]) -> tuple[float, ...]:
        """Seconds per unit of each named feature; 0 for a kind of linear that this base lacks.

        FLOPs of adapters and of models of several widths or depths have one price.

        For a curved fit, those of its linear part: knees are specific to one device. Features are physical, so prices
        are comparable across devices, runtimes and model sizes. Raises `InputError` if the regressor has no linear
        part.
        """
        fitted = self.regressor.fitted
        if not isinstance(fitted, LinearRegressor):
            name = type(fitted).__name__
            raise InputError(f"a predictor with the regressor {name} has no coefficients to transfer; fit without it")
        prices = self.scale * fitted.coef_ * self.base.at(self.features.template.length)
        seconds = dict(zip(self.features.names, prices, strict=True))
        flops = seconds[MODEL_FLOPS if MODEL_FLOPS in seconds else ADAPTER_FLOPS]
        seconds |= {MODEL_FLOPS: flops, ADAPTER_FLOPS: flops}
        return tuple(float(seconds.get(name, 0.0)) for name in names)

    @property
    def relative(self) -> "FittedPredictor":
        """Predictor with intervals of the ratio to the base, in units of its calibrated value."""
        return replace(self, base_spread=NO_SPREAD, of_ratio=True)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Fitted lengths, ascending."""
        return self.base.lengths

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """Meaning of the columns of the values."""
        return self.features.dimensions

    @cached_property
    def template(self) -> Workload:
        """Common part of every predicted workload, without adapter."""
        return at_length(self.features.template, self.length)

    @cached_property
    def reference(self) -> Workload:
        """Workload in the denominator of the predicted ratio."""
        return at_length(self.base.base, self.length)

    @cached_property
    def base_value(self) -> float:
        """Value of the reference; between fitted lengths an estimate, see `BaseCurve`."""
        return self.base.at(self.length)

    @property
    def origin(self) -> str:
        """`predicted`, or any of `interpolated`, `transferred`, and `composed` if some rows were."""
        ways = {
            INTERPOLATED: self.length not in self.lengths,
            "transferred": self.source is not None,
            "composed": self.error_card.composed > 0,
        }
        return ", ".join(way for way, so in ways.items() if so) or "predicted"

    @property
    def left_out(self) -> tuple[Array, Array, Array, Array]:
        """Measured ratio of every row, and what a fit made and chosen without it says.

        Ratio, predicted ratio, half width of the logarithm of that, and value of the base; shape (n,) each. Raises
        `InputError` for a loaded predictor, because files do not keep rows.
        """
        if self.rows is None:
            raise InputError("a loaded predictor does not have its rows; fit it again")
        return self.rows

    def _half_widths(self, X: Array) -> Array:
        """Half-widths of the logarithms, from relative features. Shape (n_rows, n_features) -> (n_rows,)."""
        half_width = self.regressor.change(X) * conformal_half_width(self.residuals, level=self.level)
        return self._shift(X).widened(half_width, self.level)

    def _shift(self, X: Array) -> SessionSpread:
        """Shift of a new session; between fitted lengths, with the largest error of the base at one left out.

        Of a ratio to the base, or if the base was measured, that error moves only what the adapter adds.
        """
        shift = self.spread.times(self.regressor.change(X))
        if self.length not in self.lengths:
            error = max(map(abs, self.base.left_out.values()), default=0.0)
            known = self.of_ratio or self.length == self.base_at
            shift = shift.plus(SessionSpread(error * (np.abs(1 - 1 / self._ratios(X)) if known else np.ones(len(X)))))
        return shift.plus(self.base_spread)

    @cached_property
    def _features(self) -> FeatureSet:
        return replace(self.features, template=self.template)

    def _relative(self, values: NDArray[np.int64]) -> Array:
        """Features relative to the base, at the length of the predictions."""
        return self._features.matrix(values) * (self.base.at(self.features.template.length) / self.base_value)

    def _ratios(self, X: Array) -> Array:
        """Predicted ratios to the reference, from relative features. Shape (n, n_features) -> (n,)."""
        if not len(X):  # regressors need not take that
            return np.empty(0)
        return self.scale * self.regressor.predict(X)
