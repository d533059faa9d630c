"""Predictor for a length that was not profiled, interpolated between a shorter and a longer one."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import InputError
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitting.fitted_model import INTERPOLATED, FittedModel
from adaptare.predictor.fitting.training_rows import differences
from adaptare.predictor.latency_predictor import LatencyPredictor
from adaptare.profiler import Workload


def interpolate(predictors: Sequence[LatencyPredictor], length: int) -> LatencyPredictor:
    """Predictor at a number of prefill tokens, or cached decode positions, linear between two profiled ones.

    Attention and activations grow with the tokens, so between nearby lengths latency is almost linear; `bends` gives
    the deviation, which the interval, the wider of both ends, does not include.

    Args:
        predictors: Two or more, of one device, base, phase and application mode, each of another length.
        length: Between the shortest and the longest of them.

    Raises:
        InputError: They differ in more than the length, or the length lies outside.
    """
    models = _by_length(predictors)
    lengths = [model.features.template.length for model in models]
    if not lengths[0] <= length <= lengths[-1]:
        raise InputError(
            f"length {length} is not between those that were profiled, {lengths[0]} and {lengths[-1]}; profile it"
        )
    if length in lengths:
        return LatencyPredictor.from_model(models[lengths.index(length)])
    end = int(np.searchsorted(lengths, length))
    return LatencyPredictor.from_model(_between(models[end - 1], models[end], length))


def bends(predictors: Sequence[LatencyPredictor]) -> dict[int, float]:
    """Relative error of the base alone if an inner length is left out and interpolated; length -> error."""
    models = _by_length(predictors)
    found = {}
    for before, inner, after in zip(models, models[1:], models[2:], strict=False):
        length = inner.features.template.length
        found[length] = _between(before, after, length).reference_s / inner.reference_s - 1
    return found


def _by_length(predictors: Sequence[LatencyPredictor]) -> list[FittedModel]:
    if len(predictors) < 2:
        raise InputError(f"a length between others needs the predictors of two, not {len(predictors)}")
    models = sorted((each.model for each in predictors), key=lambda model: model.features.template.length)
    for first, second in itertools.pairwise(models):
        ours, theirs = first.features.template, second.features.template
        if first.device != second.device:
            raise InputError(f"predictors of different devices: {differences(first.device, second.device)}")
        same = [(_at(theirs, ours.length), ours), (_at(second.reference, first.reference.length), first.reference)]
        if any(moved.hash != own.hash for moved, own in same):
            raise InputError(
                f"predictors of {ours.describe()} and of {theirs.describe()} differ in more than the length"
            )
        if ours.length == theirs.length:
            raise InputError(f"two of the predictors are of length {ours.length}")
    return models


def _between(short: FittedModel, long: FittedModel, length: int) -> FittedModel:
    """Model on the features of another length, linear between both ends."""
    ends = (short.features.template.length, long.features.template.length)
    share = (length - ends[0]) / (ends[1] - ends[0])
    features = replace(short.features, template=_at(short.features.template, length))
    parts = [(short, 1 - share), (long, share)]
    seconds = sum(part * model.reference_s for model, part in parts)
    moved = {model: _moved(model, features) for model, _ in parts}
    prices = np.sum([part * model.reference_s * moved[model].coefficients for model, part in parts], axis=0)
    lowest, highest = np.stack([moved[model].feature_range for model, _ in parts], axis=1)
    intercept_s = sum(part * model.reference_s * model.intercept for model, part in parts)
    wider = max((short, long), key=lambda model: model.half_width)
    return FittedModel(
        features=features,
        coefficients=prices / seconds,
        intercept=intercept_s / seconds,
        residuals=wider.residuals,
        spread=wider.spread,
        level=min(short.level, long.level),
        # An adapter must lie in the profiled range of both ends.
        feature_range=np.stack([lowest.max(axis=0), highest.min(axis=0)]),
        chosen=INTERPOLATED,
        reference=_at(short.reference, length),
        reference_s=float(seconds),
        device=short.device,
        workloads=(*short.workloads, *long.workloads),
        error_card=replace(wider.error_card, composed=max(each.error_card.composed for each in (short, long))),
        source=short.source or long.source,
        curves=tuple(curve.times(part) for model, part in parts for curve in moved[model].curves),
    )


def _moved(model: FittedModel, features: FeatureSet) -> FittedModel:
    """Equivalent model on the features of another length: coefficients, profiled range and curves.

    It exists because all layers have the same linears: each linear of a kind, and each of its ranks, adds the same to
    every feature at either length. In decode no feature depends on the length; in prefill the cost of an adapter on
    narrower layers is not a linear combination of the features of another length.
    """
    if features.widths:
        if features.template.phase == "prefill":
            raise InputError("predictors of widths are interpolated in decode only; profile this number of tokens")
        return replace(model, features=features)
    probes = np.vstack([rank * np.eye(len(features.sites), dtype=np.int64) for rank in (1, 2)])
    there, here = model.features.matrix(probes), features.matrix(probes)
    scale = np.where((largest := here.max(axis=0)) > 0, largest, 1.0)
    # Features of the other length as linear combinations of those of this length.
    basis: NDArray[np.float64] = np.linalg.lstsq(here / scale, there, rcond=1e-10)[0] / scale[:, None]
    return replace(
        model,
        coefficients=basis @ model.coefficients,
        feature_range=model.feature_range * _growth(model.features, features),
        curves=tuple(curve.seen_through(basis) for curve in model.curves),
    )


def _growth(there: FeatureSet, here: FeatureSet) -> NDArray[np.float64]:
    """Smallest and largest ratio of a feature to its value at another length. Shape (2, n_features).

    Features are sums of non-negative terms over sites, so the ratio lies between the smallest and the largest of a
    single site, at its smallest or its largest rank.
    """
    largest = np.array([site.largest_rank for site in here.sites], dtype=np.int64)
    probes = np.vstack([np.eye(len(largest), dtype=np.int64), np.diag(largest)])
    before, now = there.matrix(probes), here.matrix(probes)
    ratios = np.divide(now, before, out=np.full(now.shape, np.nan), where=before > 0)
    unknown = np.isnan(ratios).all(axis=0)
    ratios[:, unknown] = 1.0
    return np.stack([np.nanmin(ratios, axis=0), np.nanmax(ratios, axis=0)])


def _at(workload: Workload, length: int) -> Workload:
    return replace(workload, past=length) if workload.phase == "decode" else replace(workload, tokens=length)
