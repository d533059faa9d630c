"""Predictor for a length that was not profiled, interpolated between a shorter and a longer one."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.predictor.features import FeatureSet
from adaptare.predictor.fitted_predictor import INTERPOLATED, FittedPredictor, Part
from adaptare.predictor.fitting.training_rows import differences
from adaptare.profiler import Workload

Array = NDArray[np.float64]


def interpolate(predictors: Sequence[FittedPredictor], length: int) -> FittedPredictor:
    """Predictor at a number of prefill tokens, or cached decode positions, linear between two profiled ones.

    Attention and activations grow with the tokens, so between nearby lengths latency is almost linear; `bends` gives
    the deviation, which the interval, the wider of both ends, does not include.

    Args:
        predictors: Two or more, of one device, base, phase and application mode, each of another length.
        length: Between the shortest and the longest of them.

    Raises:
        InputError: They differ in more than the length, or the length lies outside.
    """
    ordered = _by_length(predictors)
    lengths = [predictor.template.length for predictor in ordered]
    if not lengths[0] <= length <= lengths[-1]:
        raise InputError(
            f"length {length} is not between those that were profiled, {lengths[0]} and {lengths[-1]}; profile it"
        )
    if length in lengths:
        return ordered[lengths.index(length)]
    end = int(np.searchsorted(lengths, length))
    return _between(ordered[end - 1], ordered[end], length)


def bends(predictors: Sequence[FittedPredictor]) -> dict[int, float]:
    """Relative error of the base alone if an inner length is left out and interpolated; length -> error."""
    ordered = _by_length(predictors)
    bent = {}
    for before, inner, after in zip(ordered, ordered[1:], ordered[2:], strict=False):
        length = inner.template.length
        bent[length] = _between(before, after, length).reference_s / inner.reference_s - 1
    return bent


def _by_length(predictors: Sequence[FittedPredictor]) -> list[FittedPredictor]:
    if len(predictors) < 2:
        raise InputError(f"a length between others needs the predictors of two, not {len(predictors)}")
    ordered = sorted(predictors, key=lambda predictor: predictor.template.length)
    for first, second in itertools.pairwise(ordered):
        ours, theirs = first.template, second.template
        if first.device != second.device:
            raise InputError(f"predictors of different devices: {differences(first.device, second.device)}")
        same = [(_at(theirs, ours.length), ours), (_at(second.reference, first.reference.length), first.reference)]
        if any(moved.hash != own.hash for moved, own in same):
            raise InputError(
                f"predictors of {ours.describe()} and of {theirs.describe()} differ in more than the length"
            )
        if ours.length == theirs.length:
            raise InputError(f"two of the predictors are of length {ours.length}")
    return ordered


def _between(short: FittedPredictor, long: FittedPredictor, length: int) -> FittedPredictor:
    """Predictor on the features of another length, with both ends as its parts."""
    ends = (short.template.length, long.template.length)
    share = (length - ends[0]) / (ends[1] - ends[0])
    features = replace(short.features, template=_at(short.template, length))
    weights = {short: 1 - share, long: share}
    seconds = sum(weight * end.reference_s for end, weight in weights.items())
    parts, ranges = list[Part](), []
    for end, weight in weights.items():
        basis = _basis(end.features, features)
        parts += [_moved(part, basis, weight * end.reference_s / seconds) for part in end.parts]
        ranges.append(end.feature_range * (1.0 if basis is None else _growth(end.features, features)))
    lowest, highest = np.stack(ranges, axis=1)
    wider = max(weights, key=lambda end: end.half_width)
    return FittedPredictor(
        device=short.device,
        features=features,
        parts=tuple(parts),
        reference=_at(short.reference, length),
        reference_s=float(seconds),
        residuals=wider.residuals,
        level=min(short.level, long.level),
        spread=wider.spread,
        # An adapter must lie in the profiled range of both ends.
        feature_range=np.stack([lowest.max(axis=0), highest.min(axis=0)]),
        chosen=INTERPOLATED,
        error_card=replace(wider.error_card, composed=max(end.error_card.composed for end in (short, long))),
        workloads=(*short.workloads, *long.workloads),
        source=short.source or long.source,
    )


def _moved(part: Part, basis: Array | None, share: float) -> Part:
    """The part as a function of other features, of which its own are linear combinations."""
    both = part.basis if basis is None else basis if part.basis is None else basis @ part.basis
    return Part(part.regressor, share * part.share, both)


def _basis(there: FeatureSet, here: FeatureSet) -> Array | None:
    """Features of another length as linear combinations of those of this length; `None` if they are equal.

    In decode no feature depends on the length. In prefill, each linear of a kind, and each of its ranks, adds the same
    to every feature at either length, because all layers have the same linears; the cost of an adapter on narrower
    layers, and that of the layers themselves, are no such combinations.
    """
    if here.template.phase == "decode":
        return None
    if here.widths or here.depth:
        cut = "widths" if here.widths else "depth"
        raise InputError(f"predictors of {cut} are interpolated in decode only; profile this number of tokens")
    probes = np.vstack([rank * np.eye(len(here.sites), dtype=np.int64) for rank in (1, 2)])
    theirs, ours = there.matrix(probes), here.matrix(probes)
    scale = np.where((largest := ours.max(axis=0)) > 0, largest, 1.0)
    basis: Array = np.linalg.lstsq(ours / scale, theirs, rcond=1e-10)[0] / scale[:, None]
    return basis


def _growth(there: FeatureSet, here: FeatureSet) -> Array:
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
