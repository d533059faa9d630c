"""Latency predictor, fitted to some tens of measured adapters on one device."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from adaptare.devices import InputError
from adaptare.predictor.estimators.curved import Curved
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitting.candidates import TRANSFERRED, candidate_interval, candidates
from adaptare.predictor.fitting.choice import choose_candidate, reason_for
from adaptare.predictor.fitting.cross_validation import baseline_errors, cross_validate
from adaptare.predictor.fitting.error_card import ErrorCard, make_error_card
from adaptare.predictor.fitting.fitted_model import FittedModel
from adaptare.predictor.fitting.training_rows import codes_of, differences, spread, training_rows
from adaptare.predictor.fitting.transferred import Transferred
from adaptare.predictor.intervals.conformal import rows_needed
from adaptare.predictor.prediction import Prediction
from adaptare.profiler import Column, Configuration, Measurement, Workload

FEWEST_ROWS = 8
LEVEL = 0.9


class LatencyPredictor:
    """Latency of configurations on one device, for workloads that differ only in ranks and widths.

    Learns the ratio to the reference, which is robust to changes of the device's speed between sessions, from physical
    features; predicted seconds are that ratio times the reference's calibrated seconds.

    Args:
        level: Probability with which an interval contains the measured latency.
    """

    def __init__(self, *, level: float = LEVEL) -> None:
        self._rows_needed = max(FEWEST_ROWS, rows_needed(level))
        self._level = level
        self._model: FittedModel | None = None
        self._reason = ""
        self._left_out: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None

    @classmethod
    def from_model(cls, model: FittedModel) -> "LatencyPredictor":
        """Predictor from an already fitted model."""
        predictor = cls(level=model.level)
        predictor._model = model
        return predictor

    def fit(
        self, measurements: Sequence[Measurement], *, source: "LatencyPredictor | None" = None
    ) -> "LatencyPredictor":
        """Fits, evaluates and chooses a model; failed and interrupted measurements are left out.

        Args:
            measurements: Measurements of one device and base, which differ only in ranks and widths. Widths are learned
                if some row has layers narrower than the base's.
            source: Predictor of another device, runtime, thread count, dtype or size of model, to transfer from: 10 to
                20 measurements are then enough. It is used only if it lowers the error on held-out rows; `chosen` is
                then `transferred`.

        Raises:
            InputError: Device, reference or anything but the adapter differs, too few adapters were measured, or the
                source was fitted to some of them on this device.
        """
        rows = training_rows(measurements)
        if source and source.model.device == rows.device and set(source.model.workloads) & set(rows.workloads):
            raise InputError(
                "the predictor to begin with was fitted to some of these adapters on this device, so they cannot judge "
                "it; fit all of them without it"
            )
        adapters = len(np.unique(rows.workloads))
        if adapters < self._rows_needed:
            raise InputError(
                f"a predictor with intervals of level {self._level:g} needs at least {self._rows_needed} measured "
                f"adapters, {adapters} came; profile more, 24 to 40 are a good number"
            )
        features = FeatureSet(rows.template, rows.columns)
        X = features.matrix(rows.codes)
        fits = candidates(features.prior)
        if source is not None:
            fits[TRANSFERRED] = Transferred(source.model.prices_s(features.names))
        predicted, procedure = cross_validate(fits, X, rows.ratios, rows.groups, level=self._level)
        chosen = choose_candidate(predicted, rows.ratios, rows.groups)
        self._left_out = rows.ratios, procedure.ratios, procedure.half_widths
        self._reason = reason_for(chosen, predicted, rows.ratios, rows.groups)
        estimator = clone(fits[chosen]).fit(X, rows.ratios)
        residuals, session_spread = candidate_interval(estimator, rows.ratios, rows.groups)
        others = {name: np.abs(each - rows.ratios) for name, each in predicted.items() if name != chosen}
        self._model = FittedModel(
            features=features,
            coefficients=estimator.coef_,
            intercept=estimator.intercept_,
            residuals=np.sort(residuals),
            level=self._level,
            feature_range=np.stack([X.min(axis=0), X.max(axis=0)]),
            chosen=chosen,
            source=source.model.device if source and chosen == TRANSFERRED else None,
            curves=(estimator.curve_,) if isinstance(estimator, Curved) else (),
            spread=session_spread,
            reference=rows.reference,
            reference_s=rows.reference_s,
            device=rows.device,
            workloads=tuple(rows.workloads.tolist()),
            error_card=make_error_card(
                procedure,
                rows.ratios,
                rows.groups,
                others={**others, **baseline_errors(X, rows.ratios, rows.groups)},
                sessions=rows.sessions,
                openings=rows.openings,
                composed=rows.composed,
            ),
        )
        return self

    def predict(self, codes: NDArray[np.int64], columns: Sequence[Column] | None = None) -> Prediction:
        """Latency of configurations given as ranks and widths.

        Args:
            codes: Shape (n, n_columns); rank 0 = no adapter.
            columns: Meaning of the columns, as `Space.columns`; default: `self.columns`. Sites without a column have no
                adapter, and layers without one the base's width.

        Raises:
            InputError: The codes are not ranks and widths of these columns, or the predictor lacks such a column.
        """
        if columns is not None:
            codes = spread(np.asarray(codes), columns, self.columns)
        return self.model.predict(np.asarray(codes))

    def predict_configs(self, configs: Sequence[Configuration]) -> Prediction:
        """Latency of configurations, in their order. Raises `InputError` if one does not fit the base model."""
        return self.model.predict(self._codes(configs))

    def probability_within(self, configs: Sequence[Configuration], budget_s: float) -> NDArray[np.float64]:
        """Probability that each configuration's latency is within the budget. Shape (n,)."""
        return self.model.probability_within(self._codes(configs), budget_s)

    def relevelled(self, references: Sequence[Measurement]) -> "LatencyPredictor":
        """Predictor recalibrated for a session in which some rows were measured, spread evenly over it.

        Level and interval come from the references; seconds remain those of the calibrated base.

        Raises:
            InputError: The references are of another device, base or kind of workload, or too few.
        """
        rows = training_rows(references)
        if rows.device != self.model.device:
            raise InputError(
                f"references must be of the predictor's device; they are of "
                f"{differences(rows.device, self.model.device)}"
            )
        # With an adapter on every site, a cut graph equals an open one.
        everywhere = self.template.graph == "open" and (rows.codes > 0).all()
        template = self.template if everywhere else rows.template
        if template.hash != self.template.hash or rows.reference.hash != self.model.reference.hash:
            raise InputError("references must differ from what the predictor was fitted for only in ranks and widths")
        least = rows_needed(self._level)
        if len(rows.ratios) < least:
            raise InputError(f"an interval of level {self._level:g} needs {least} references, {len(rows.ratios)} came")
        return LatencyPredictor.from_model(
            self.model.relevelled(spread(rows.codes, rows.columns, self.columns), rows.ratios)
        )

    @property
    def model(self) -> FittedModel:
        """The fitted model. Raises `InputError` before `fit`."""
        if self._model is None:
            raise InputError("the predictor knows nothing yet; call fit(measurements), or load a saved one")
        return self._model

    @property
    def columns(self) -> tuple[Column, ...]:
        """Meaning of the columns of the codes."""
        return self.model.features.columns

    @property
    def template(self) -> Workload:
        """Common part of every predicted workload, without adapter."""
        return self.model.features.template

    @property
    def chosen(self) -> str:
        """Name of the chosen fit: `shrunken`, `transferred`, a simpler or better one, or `interpolated`."""
        return self.model.chosen

    @property
    def reason(self) -> str:
        """Reason for the choice, one sentence; empty for a loaded predictor, because files do not keep rows."""
        return self._reason

    @property
    def left_out(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Ratio of every row: measured, predicted by a model fitted and chosen without it, half width. Shape (n,) each.

        Raises:
            InputError: The predictor was loaded, and files do not keep rows.
        """
        if self._left_out is None:
            raise InputError("a loaded predictor does not have its rows; fit it again")
        return self._left_out

    @property
    def error_card(self) -> ErrorCard:
        """Errors of the predictor on held-out adapters."""
        return self.model.error_card

    def _codes(self, configs: Sequence[Configuration]) -> NDArray[np.int64]:
        return codes_of([config.on(self.template.shape) for config in configs], self.columns)
