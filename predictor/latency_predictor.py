"""Learns from some tens of measured adapters what all others would take on the same device."""

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

    Learns the ratio to the reference, which survives a change of the device's speed between sessions, from physical
    features; predicted seconds are that ratio times the reference's calibrated seconds.

    Args:
        level: Probability with which an interval shall hold what would be measured.
    """

    def __init__(self, *, level: float = LEVEL) -> None:
        self._rows_needed = max(FEWEST_ROWS, rows_needed(level))
        self._level = level
        self._model: FittedModel | None = None
        self._reason = ""
        self._left_out: tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None = None

    @classmethod
    def from_model(cls, model: FittedModel) -> "LatencyPredictor":
        """A predictor that was fitted before."""
        predictor = cls(level=model.level)
        predictor._model = model
        return predictor

    def fit(
        self, measurements: Sequence[Measurement], *, source: "LatencyPredictor | None" = None
    ) -> "LatencyPredictor":
        """Fits, judges and chooses; failed and interrupted measurements are left out.

        Args:
            measurements: Of one device and base, which differ only in ranks and widths. Widths are learned if some row
                has layers narrower than the base's.
            source: Of another device, runtime, thread count, dtype or size of model, to begin with: 10 to 20
                measurements are then enough. Whether it helps is judged on rows left out; `chosen` is `transferred`
                if so.

        Raises:
            InputError: Device, reference or anything but the adapter differs, too few adapters were measured, or the
                source has seen some of them on this device.
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
            columns: What the columns stand for, as `Space.columns`; default: `self.columns`. Sites that are not named
                have no adapter, and layers the base's width.

        Raises:
            InputError: The codes are no ranks and widths of these columns, or the predictor knows no such column.
        """
        if columns is not None:
            codes = spread(np.asarray(codes), columns, self.columns)
        return self.model.predict(np.asarray(codes))

    def predict_configs(self, configs: Sequence[Configuration]) -> Prediction:
        """Latency of configurations, in their order. Raises `InputError` if one does not fit the base model."""
        return self.model.predict(self._codes(configs))

    def probability_within(self, configs: Sequence[Configuration], budget_s: float) -> NDArray[np.float64]:
        """Probability with which each configuration takes at most so many seconds. Shape (n,)."""
        return self.model.probability_within(self._codes(configs), budget_s)

    def relevelled(self, references: Sequence[Measurement]) -> "LatencyPredictor":
        """The same predictor for a session of which some rows were measured, spread evenly over it.

        Its level and its interval are those of the references; seconds stay those of the base as it was calibrated.

        Raises:
            InputError: They are of another device, base or kind of workload, or too few.
        """
        rows = training_rows(references)
        if rows.device != self.model.device:
            raise InputError(
                f"references must be of the predictor's device; they are of "
                f"{differences(rows.device, self.model.device)}"
            )
        # Where an adapter is on every site, all are open anyway.
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
        """All that was learned. Raises `InputError` before `fit`."""
        if self._model is None:
            raise InputError("the predictor knows nothing yet; call fit(measurements), or load a saved one")
        return self._model

    @property
    def columns(self) -> tuple[Column, ...]:
        """What the columns of the codes stand for."""
        return self.model.features.columns

    @property
    def template(self) -> Workload:
        """What every predicted workload has in common, without adapter."""
        return self.model.features.template

    @property
    def chosen(self) -> str:
        """Which fit ships: `shrunken`, `transferred`, a simpler or better one by its name, or `interpolated`."""
        return self.model.chosen

    @property
    def reason(self) -> str:
        """Why that one ships, in a sentence; empty of a loaded predictor, because files do not keep rows."""
        return self._reason

    @property
    def left_out(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Ratio to the reference of every row: measured, predicted and chosen without it, half width. Shape (n,) each.

        Raises:
            InputError: The predictor was loaded, and files do not keep rows.
        """
        if self._left_out is None:
            raise InputError("a loaded predictor does not have its rows; fit it again")
        return self._left_out

    @property
    def error_card(self) -> ErrorCard:
        """What the predictor is off on adapters it has not seen."""
        return self.model.error_card

    def _codes(self, configs: Sequence[Configuration]) -> NDArray[np.int64]:
        return codes_of([config.on(self.template.shape) for config in configs], self.columns)
