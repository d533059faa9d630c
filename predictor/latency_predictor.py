"""Fit of a latency predictor to some tens of measured adapters on one device."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from adaptare.core import InputError
from adaptare.predictor.base_curve import at_length
from adaptare.predictor.estimators.anchored import Anchored
from adaptare.predictor.estimators.transferred import Transferred
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitted_predictor import FittedPredictor
from adaptare.predictor.fitting.candidates import (
    BASELINES,
    TRANSFERRED,
    candidate_interval,
    candidates,
    choose_candidate,
    reason_for,
)
from adaptare.predictor.fitting.cross_validation import FOLDS, cross_validate, left_out_ratios, make_error_card
from adaptare.predictor.fitting.training_rows import ADAPTER, WORKLOAD, training_rows
from adaptare.predictor.intervals import NO_SPREAD, base_spread, rows_needed
from adaptare.predictor.regressor import Regressor, check_regressor, name_of, registered_class, unfitted
from adaptare.profiler import Measurement
from adaptare.profiler.store import LATENCY

FEWEST_ROWS = 8
LEVEL = 0.9


class LatencyPredictor:
    """Settings of a fit; `fit` returns the fitted predictor.

    Learns the ratio to the reference, which is robust to changes of the device's speed between sessions, from physical
    features. A fit needs at least `fewest_adapters`.

    Args:
        quantity: Measured quantity to predict: latency, or one that a probe measures, such as energy.
        level: Probability with which an interval contains the measured value.
        regressor: Regressor to use instead of a choice between several: an object, or the name of a candidate or of an
            entry point in the group `adaptare.regressors`.
    """

    def __init__(
        self, *, quantity: str = LATENCY, level: float = LEVEL, regressor: Regressor | str | None = None
    ) -> None:
        self._quantity = quantity
        self.fewest_adapters = max(FEWEST_ROWS, rows_needed(level))
        self._level = level
        self._regressor = regressor
        if regressor is not None and not isinstance(regressor, str):
            check_regressor(regressor)

    def fit(
        self,
        measurements: Sequence[Measurement],
        *,
        source: FittedPredictor | None = None,
        progress: Callable[[float], None] = lambda share: None,
    ) -> FittedPredictor:
        """Fits, evaluates and chooses a regressor; failed and interrupted measurements are left out.

        Widths, depth and length are learned if they differ; the predictor then answers for every length between the
        shortest and the longest.

        Args:
            measurements: Measurements of one device and base, which differ only in ranks, widths, layers left out and
                length (tokens of prefill, cached positions of decode).
            source: Predictor of another device, runtime, thread count, dtype or size of model, to transfer from: 10 to
                20 measurements are then enough. It is used only if it lowers the error on held-out rows; `chosen` is
                then `transferred`.
            progress: Receives the completed share of the cross-validation, from 0 to 1.

        Raises:
            InputError: Device, reference or anything but the adapter differs, too few adapters were measured, the
                source was fitted to some of them on this device, or no package registers the regressor's name.
        """
        training = training_rows(measurements, self._quantity)
        rows, features = training.rows, training.features
        workloads = rows.groups[:, WORKLOAD].tolist()
        if source and source.device == training.device and set(source.workloads) & set(workloads):
            raise InputError(
                "the predictor to begin with was fitted to some of these adapters on this device, so they cannot judge "
                "it; fit all of them without it"
            )
        adapters = len(np.unique(rows.groups[:, ADAPTER]))
        if adapters < self.fewest_adapters:
            raise InputError(
                f"a predictor with intervals of level {self._level:g} needs at least {self.fewest_adapters} measured "
                f"adapters, {adapters} came; profile more, 24 to 40 are a good number"
            )
        # A graph that is open for adapters costs something even without them.
        length = features.template.length
        known = features.template.graph != "open" and at_length(training.base.base, length) == features.template.base
        fits, compared = (
            {name: Anchored(each, features.totals if known else ()) for name, each in some.items()}
            for some in self._fits(features, source)
        )
        predicted, procedure = cross_validate(fits, rows, level=self._level, progress=progress)
        chosen = choose_candidate(predicted, rows)
        regressor = unfitted(fits[chosen]).fit(rows.X, rows.ratios)
        residuals, session_spread = candidate_interval(regressor, rows)
        others = {**predicted, **left_out_ratios(compared, rows, folds=FOLDS)}
        errors = {name: np.abs(ratios - rows.ratios) for name, ratios in others.items() if name != chosen}
        profiled = features.matrix(training.values)
        return FittedPredictor(
            device=training.device,
            features=features,
            base=training.base,
            regressor=regressor,
            residuals=np.sort(residuals),
            level=self._level,
            spread=session_spread,
            feature_range=np.stack([profiled.min(axis=0), profiled.max(axis=0)]),
            chosen=chosen,
            base_spread=NO_SPREAD if training.unit == "B" else base_spread(training.base_shifts),
            error_card=make_error_card(procedure, training, errors, level=self._level),
            workloads=tuple(workloads),
            length=length,
            quantity=self._quantity,
            unit=training.unit,
            source=source.device if source and chosen == TRANSFERRED else None,
            reason=reason_for(chosen, predicted, rows),
            rows=(
                rows.ratios,
                procedure.ratios,
                procedure.half_widths,
                np.array([training.base.at(int(length)) for length in training.lengths]),
            ),
        )

    def _fits(
        self, features: FeatureSet, source: FittedPredictor | None
    ) -> tuple[Mapping[str, Regressor], Mapping[str, Regressor]]:
        """Regressors to choose from, and others to compare the chosen one with."""
        ours = candidates(features.prior)
        if self._regressor is None:
            if source is not None:
                ours[TRANSFERRED] = Transferred(source.prices_s(features.names))
            return ours, BASELINES
        if source is not None:
            raise InputError("a transfer chooses between regressors; give a source or a regressor, not both")
        if not isinstance(self._regressor, str):
            asked = name_of(type(self._regressor)), self._regressor
        else:
            asked = self._regressor, ours.get(self._regressor) or registered_class(self._regressor)()
        return dict([asked]), {name: candidate for name, candidate in {**ours, **BASELINES}.items() if name != asked[0]}
