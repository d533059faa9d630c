"""Fitted predictor of one device: what `LatencyPredictor.fit` and `load_predictor` return."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import DeviceInfo
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitting.error_card import ErrorCard
from adaptare.predictor.fitting.training_rows import codes_of, differences, spread, training_rows
from adaptare.predictor.intervals.conformal import conformal_half_width, rows_needed
from adaptare.predictor.intervals.session_spread import SessionSpread
from adaptare.predictor.prediction import Prediction
from adaptare.predictor.regressor import LinearRegressor, Regressor
from adaptare.profiler import Column, Configuration, Measurement, Workload

Array = NDArray[np.float64]
# Extension of the profiled range of a feature, as a share of the range, that still counts as inside: new configs, drawn
# like 24 profiled ones, lie outside the exact range of one of 17 features in 24 % of cases, with this slack in 3 %.
RANGE_SLACK = 0.25
# Relative rounding error of a bound that was computed in two ways.
ROUNDING = 1e-9
INTERPOLATED = "interpolated"


@dataclass(frozen=True, eq=False)
class Part:
    """Fitted regressor with its share in the predicted ratio.

    Args:
        regressor: Regressor of the ratio to the reference it was fitted with.
        share: Factor on its prediction.
        basis: Map from the predictor's features to those the regressor was fitted to; `None` if they are equal. Shape
            (n_features, n_features).
    """

    regressor: Regressor
    share: float = 1.0
    basis: Array | None = None

    def ratios(self, X: Array) -> Array:
        """Its part of the ratios. Shape (n, n_features) -> (n,)."""
        if not len(X):  # regressors need not take that
            return np.empty(0)
        return self.share * self.regressor.predict(X if self.basis is None else X @ self.basis)

    def prices(self) -> Array:
        """Its part of the ratio, per unit of each feature. Raises `InputError` if it has no linear part."""
        if not isinstance(self.regressor, LinearRegressor):
            name = type(self.regressor).__name__
            raise InputError(f"a predictor with the regressor {name} has no coefficients to transfer; fit without it")
        prices: Array = self.share * self.regressor.coef_
        return prices if self.basis is None else self.basis @ prices


@dataclass(frozen=True, eq=False)
class FittedPredictor:
    """Latency of configurations on one device, for workloads that differ only in ranks and widths.

    Predicted seconds are the predicted ratio to the reference times the reference's calibrated seconds.

    Args:
        device: The measured device.
        features: Features of a configuration, with the workload template.
        parts: Regressors of the ratio to the reference: one, or those of two lengths.
        reference: Workload in the denominator of the ratio.
        reference_s: Latency of the reference, seconds.
        residuals: Errors of held-out rows, relative to their prediction. Shape (n_residuals,).
        level: Coverage probability of the interval.
        spread: Shift of a new session, which the residuals do not contain.
        feature_range: Smallest and largest profiled value. Shape (2, n_features).
        chosen: Name of the fit: `shrunken`, `transferred`, a simpler or better one, the one that was asked for, or
            `interpolated` from the predictors of two lengths.
        error_card: Errors on held-out adapters.
        workloads: Hash of each training row's workload.
        source: The device from which coefficients were transferred, if any.
        reason: Reason for the choice, one sentence; empty for a loaded predictor, because files do not keep rows.
        rows: See `left_out`; `None` for a loaded predictor.
    """

    device: DeviceInfo
    features: FeatureSet
    parts: tuple[Part, ...] = field(repr=False)
    reference: Workload
    reference_s: float
    residuals: Array = field(repr=False)
    level: float
    spread: SessionSpread
    feature_range: Array = field(repr=False)
    chosen: str
    error_card: ErrorCard
    workloads: tuple[str, ...] = field(repr=False)
    source: DeviceInfo | None = None
    reason: str = field(default="", repr=False)
    rows: tuple[Array, Array, Array] | None = field(default=None, repr=False)

    def predict(self, codes: NDArray[np.int64], columns: Sequence[Column] | None = None) -> Prediction:
        """Latency of configurations given as ranks and widths.

        Args:
            codes: Shape (n, n_columns); rank 0 = no adapter.
            columns: Meaning of the columns, as `Space.columns`; default: `self.columns`. Sites without a column have no
                adapter, and layers without one the base's width.

        Raises:
            InputError: The codes are not ranks and widths of these columns, or the predictor lacks such a column.
        """
        codes = np.asarray(codes)
        X = self.features.matrix(codes if columns is None else spread(codes, columns, self.columns))
        mean_s: Array = np.sum([part.ratios(X) for part in self.parts], axis=0) * self.reference_s
        lowest, highest = self.feature_range
        slack = RANGE_SLACK * np.maximum(highest - lowest, 0.0) + ROUNDING * np.abs(highest)
        beyond = np.maximum(lowest - X, X - highest)
        return Prediction(
            mean_s=mean_s,
            lower_s=mean_s * max(0.0, 1 - self.half_width),
            upper_s=mean_s * (1 + self.half_width),
            extrapolates=(beyond > slack).any(axis=1),
        )

    def predict_configs(self, configs: Sequence[Configuration]) -> Prediction:
        """Latency of configurations, in their order. Raises `InputError` if one does not fit the base model."""
        return self.predict(codes_of([config.on(self.template.shape) for config in configs], self.columns))

    def probability_within(self, configs: Sequence[Configuration], budget_s: float) -> Array:
        """Probability that each configuration's latency is within the budget. Shape (n,).

        Assumes a residual exchangeable with those of held-out rows, plus the shift of a new session: if k of n
        residuals are within the budget without a shift, the probability is at least k / (n + 1).
        """
        slack = budget_s / self.predict_configs(configs).mean_s - 1
        below = self.spread.probability_below(slack[:, None] - self.residuals).sum(axis=1)
        probability: Array = below / (len(self.residuals) + 1)
        return probability

    def relevelled(self, references: Sequence[Measurement]) -> "FittedPredictor":
        """Predictor recalibrated for a session in which some rows were measured, spread evenly over it.

        Level and interval come from the references; seconds remain those of the calibrated base. A new session mainly
        shifts all latencies together. References from its start only, before the device reaches a steady state, are
        worse than none.

        The references are part of the scale they are compared with, which reduces coverage slightly, more so the fewer
        they are; their even instead of random spacing raises it (`hwgpt-session` of benchmarks/prediction_external.py
        prints the sum of both), so no reference is left out of its scale.

        Raises:
            InputError: The references are of another device, base or kind of workload, or too few.
        """
        rows = training_rows(references)
        if rows.device != self.device:
            raise InputError(
                f"references must be of the predictor's device; they are of {differences(rows.device, self.device)}"
            )
        # With an adapter on every site, a cut graph equals an open one.
        everywhere = self.template.graph == "open" and (rows.codes > 0).all()
        template = self.template if everywhere else rows.template
        if template.hash != self.template.hash or rows.reference.hash != self.reference.hash:
            raise InputError("references must differ from what the predictor was fitted for only in ranks and widths")
        least = rows_needed(self.level)
        if len(rows.ratios) < least:
            raise InputError(f"an interval of level {self.level:g} needs {least} references, {len(rows.ratios)} came")
        predicted = self.predict(rows.codes, rows.columns).mean_s / self.reference_s
        scale = float(np.median(rows.ratios / predicted))
        return replace(
            self,
            parts=tuple(replace(part, share=scale * part.share) for part in self.parts),
            residuals=rows.ratios / (scale * predicted) - 1,
            spread=SessionSpread(0.0),
        )

    def prices_s(self, names: Sequence[str]) -> tuple[float, ...]:
        """Seconds per unit of each named feature; 0 for a kind of linear that this base lacks.

        For a curved fit, those of its linear part: knees are specific to one device. Features are physical, so prices
        are comparable across devices, runtimes and model sizes.

        Raises:
            InputError: The regressor has no linear part.
        """
        prices = np.sum([part.prices() for part in self.parts], axis=0) * self.reference_s
        seconds = dict(zip(self.features.names, prices, strict=True))
        return tuple(float(seconds.get(name, 0.0)) for name in names)

    @cached_property
    def half_width(self) -> float:
        """Half-width of the interval for a row of a new session, relative to the predicted ratio."""
        return self.spread.widened(conformal_half_width(self.residuals, level=self.level), self.level)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Meaning of the columns of the codes."""
        return self.features.columns

    @property
    def template(self) -> Workload:
        """Common part of every predicted workload, without adapter."""
        return self.features.template

    @property
    def origin(self) -> str:
        """`predicted`, or any of `interpolated`, `transferred`, and `composed` if some rows were."""
        ways = {
            INTERPOLATED: self.chosen == INTERPOLATED,
            "transferred": self.source is not None,
            "composed": self.error_card.composed > 0,
        }
        return ", ".join(way for way, so in ways.items() if so) or "predicted"

    @property
    def left_out(self) -> tuple[Array, Array, Array]:
        """Ratio of every row: measured, predicted by a fit made and chosen without it, half width. Shape (n,) each.

        Raises:
            InputError: The predictor was loaded, and files do not keep rows.
        """
        if self.rows is None:
            raise InputError("a loaded predictor does not have its rows; fit it again")
        return self.rows
