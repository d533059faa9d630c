"""Conversion of measurements to the rows of one regression, with checks that they are comparable."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adaptare.core import InputError
from adaptare.devices import DeviceInfo
from adaptare.predictor.base_curve import BaseCurve, at_length, relative_features
from adaptare.predictor.features import FeatureSet
from adaptare.profiler import Configuration, Measurement, Workload
from adaptare.profiler.store import LATENCY
from adaptare.profiler.workloads import Graph

# Columns of `Rows.groups`.
ADAPTER, RUN, SESSION, WORKLOAD = 0, 1, 2, 3


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a regression of the ratio to the reference.

    Args:
        X: Features relative to the base; see `relative_features`. Shape (n, n_features).
        ratios: Candidate over reference. Shape (n,).
        groups: Groups of each row: its adapter, at any length; its run, the openings (fresh loads of all programs)
            that measured it, identified by session and first opening; its session; hash of its workload, which is its
            adapter at its length. Shape (n, 4).
        noise: Variance of the measurement error of each row's log ratio; see `row_noise`. Shape (n,).
    """

    X: NDArray[np.float64]
    ratios: NDArray[np.float64]
    groups: NDArray[np.str_]
    noise: NDArray[np.float64]

    def only(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Some of the rows. Shape (n,)."""
        return Rows(self.X[chosen], self.ratios[chosen], self.groups[chosen], self.noise[chosen])


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Training data of one predictor.

    Args:
        template: The workloads without their configurations, at the longest length.
        base: Value of the reference (the workload in the denominator of a ratio) at each length, by the newest
            calibration; one measured whole takes precedence over a composed one.
        unit: SI unit of the quantity.
        values: Values of the dimensions of the features. Shape (n, n_dimensions).
        lengths: Tokens of prefill, or cached positions of decode. Shape (n,).
        rows: Features, ratios and groups.
        base_shifts: Logarithm of the base's value over that of `base`, by session. Shape (n_sessions,).
        openings: Number of openings over all sessions.
        composed: Number of rows composed from stubs (models with few layers).
    """

    template: Workload
    base: BaseCurve
    unit: str
    device: DeviceInfo
    features: FeatureSet
    values: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: Rows
    base_shifts: NDArray[np.float64]
    openings: int
    composed: int

    @property
    def sessions(self) -> int:
        """Number of sessions among the rows."""
        return len(np.unique(self.rows.groups[:, SESSION]))


def training_rows(measurements: Sequence[Measurement], quantity: str = LATENCY) -> TrainingRows:
    """Training rows of the complete measurements, which may differ only in ranks, widths, depth and length.

    A workload without adapter is the base in every mode and may be mixed with others, unless these are of a graph with
    every site open (taking an adapter at run time), which has a cost even without adapter.

    Raises:
        InputError: No measurement is complete, or device, reference or another property of the workloads differs.
    """
    rows = [row for row in measurements if row.complete and row.has(quantity)]
    if not rows:
        lacking = "" if quantity == LATENCY else f" with {quantity}"
        raise InputError(f"none of the {len(measurements)} measurements is complete{lacking}; profile the device first")
    longest = max(row.workload.length for row in rows)
    first = next((row for row in rows if _depends_on_mode(row.workload)), rows[0])
    for row in rows:
        _check_alike(row, first)
    template = replace(at_length(first.workload, longest), configuration=Configuration(), graph=_common_graph(rows))
    configurations = [row.workload.configuration for row in rows]
    features = FeatureSet.of(template, configurations, options=first.device.options)
    # The newest calibration of a length, measured before composed, replaces the others.
    calibrations = sorted(rows, key=lambda row: (row.origin == "measured", row.taken_at))
    base = BaseCurve(first.reference, {row.workload.length: row.reference_value(quantity) for row in calibrations})
    groups = np.array([_groups(row, longest) for row in rows])
    ratios = np.array([row.ratio_to_reference(quantity).middle for row in rows])
    noise = row_noise(rows, groups[:, RUN]) if quantity == LATENCY else np.zeros(len(rows))
    values, lengths = features.values(configurations), np.array([row.workload.length for row in rows], dtype=np.int64)
    return TrainingRows(
        template=template,
        base=base,
        unit="s" if quantity == LATENCY else first.samples(quantity).unit,
        device=first.device,
        features=features,
        values=values,
        lengths=lengths,
        rows=Rows(relative_features(features, values, lengths, base), ratios, groups, noise),
        base_shifts=_base_shifts(rows, base, quantity),
        openings=len({(row.session, visit.opening) for row in rows for visit in row.visits}),
        composed=sum(row.origin == "composed" for row in rows),
    )


def row_noise(rows: Sequence[Measurement], runs: NDArray[np.str_]) -> NDArray[np.float64]:
    """Variance of the measurement error of each row's log ratio, in comparison with the other rows. Shape (n,).

    In one opening, all rows of a run share the reference, and its error shifts all of them; what remains of the log
    ratios after the means of rows and openings is the error of one row in one opening. The shift is an error in
    comparison with rows of other runs. 0 where it is not known: in runs of a single row or opening.

    References:
        Scheffé 1959, "The Analysis of Variance", section 4.2 (two-way layout).
    """
    noise = np.zeros(len(rows))
    logs = [{each: float(np.median(np.log(row.ratios[row.openings == each]))) for each in row.openings} for row in rows]
    for label in np.unique(runs):
        own = np.flatnonzero(runs == label)
        shared = sorted(set.intersection(*(set(logs[row]) for row in own)))
        table = np.array([[logs[row][opening] for opening in shared] for row in own])
        if min(table.shape) < 2:
            continue
        shifts = table.mean(axis=0) - table.mean()
        rest = table - table.mean(axis=1, keepdims=True) - shifts
        variance = np.sum(rest**2) / (len(own) - 1) + np.sum(shifts**2) * (1 - len(own) / len(rows))
        noise[own] = variance / (len(shared) - 1) / len(shared)
    return noise


def _base_shifts(rows: Sequence[Measurement], base: BaseCurve, quantity: str) -> NDArray[np.float64]:
    """Mean over the rows of each session."""
    logs: dict[str, list[float]] = {}
    for row in rows:
        value = row.reference_raw_s if quantity == LATENCY else row.reference_value(quantity)
        if value > 0:
            logs.setdefault(row.session, []).append(math.log(value / base.at(row.workload.length)))
    return np.array([np.mean(each) for each in logs.values()])


def _groups(row: Measurement, longest: int) -> tuple[str, str, str, str]:
    run = f"{row.session} {min((visit.opening for visit in row.visits), default=0)}"
    return at_length(row.workload, longest).hash, run, row.session, row.workload.hash


def _depends_on_mode(workload: Workload) -> bool:
    """True if the mode affects latency; without adapter it does so only where every site is open for one."""
    return bool(workload.configuration.ranks) or workload.graph == "open"


def _check_alike(row: Measurement, first: Measurement) -> None:
    if row.device != first.device:
        raise InputError(
            f"a predictor is of one device; these are of {differences(row.device, first.device)}; fit one for each"
        )
    reference = first.reference
    if row.workload.length != first.workload.length:
        reference = at_length(reference, row.workload.length)
    if row.reference.hash != reference.hash:
        raise InputError(
            f"ratios over different references do not compare; these are over {row.reference.hash} and "
            f"{reference.hash}; measure again what was measured beside another reference"
        )
    ours, theirs = row.workload.to_json(), first.workload.to_json()
    varied = {kind.key for each in (row, first) for kind in each.workload.configuration.kinds if kind.cuts}
    ignored = ("adapter", "length", *varied, *([] if _depends_on_mode(row.workload) else ["mode"]))
    unequal = [name for name in {**theirs, **ours} if name not in ignored and ours.get(name) != theirs.get(name)]
    if unequal:
        kinds = ", ".join(f"{name} {theirs.get(name)} and {ours.get(name)}" for name in unequal)
        raise InputError(
            f"measurements of one predictor differ only in ranks, widths, layers left out and length; these have "
            f"{kinds}; fit one for each"
        )


def _common_graph(rows: Sequence[Measurement]) -> Graph:
    """`open` if any row is; with an adapter on every site, a cut graph equals an open one."""
    workloads = [row.workload for row in rows]
    if not any(workload.graph == "open" for workload in workloads):
        return "cut"
    partly = [
        workload
        for workload in workloads
        if workload.graph == "cut" and len(workload.configuration.ranks) < len(workload.scope_sites)
    ]
    if partly:
        raise InputError(
            f"{len(partly)} of {len(rows)} measurements are of graphs without some sites, and others of graphs "
            "with every site; fit one predictor for each kind"
        )
    return "open"


def differences(ours: DeviceInfo, theirs: DeviceInfo) -> str:
    """Fields in which two device infos differ."""
    names = ("device", "hardware", "runtime", "threads", "options")
    unequal = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    return ", ".join(f"{name} {getattr(theirs, name)!r} and {getattr(ours, name)!r}" for name in unequal)
