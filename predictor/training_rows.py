"""Measurements as the rows of one regression, or the reason why they cannot be."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from adaptare.devices import DeviceInfo, InputError
from adaptare.profiler import AdapterConfig, Measurement, Site, Workload

# Columns of `TrainingRows.groups`.
WORKLOAD, ROUNDS, SESSION = 0, 1, 2


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """What one predictor learns from.

    Args:
        template: Everything about the workloads but their adapters.
        reference: What every ratio is over.
        reference_s: What the reference takes, by the newest calibration, seconds; one that was measured whole counts
            more than one that was composed.
        device: Who took the time.
        codes: Shape (n, n_sites), columns as `template.scope_sites`.
        ratios: Candidate over reference. Shape (n,).
        groups: What each row shares with others: the hash of its workload; its rounds, known by session and first
            opening; its session. Shape (n, 3).
        openings: Different openings of programs, over all sessions.
        composed: Rows that were composed from stubs.
    """

    template: Workload
    reference: Workload
    reference_s: float
    device: DeviceInfo
    codes: NDArray[np.int64]
    ratios: NDArray[np.float64]
    groups: NDArray[np.str_]
    openings: int
    composed: int

    @property
    def workloads(self) -> NDArray[np.str_]:
        """Hash of each row's workload. Shape (n,)."""
        return self.groups[:, WORKLOAD]

    @property
    def sessions(self) -> int:
        """Different ones among the rows."""
        return len(np.unique(self.groups[:, SESSION]))


def training_rows(measurements: Sequence[Measurement]) -> TrainingRows:
    """The complete ones among the measurements, which must differ in nothing but the adapter.

    A workload without adapter is the base in every mode and may stand among the others, unless these are of a graph
    with every site open, which costs something even without adapter.

    Raises:
        InputError: Nothing is complete, or device, reference or anything else about the workloads differs.
    """
    rows = [measurement for measurement in measurements if measurement.complete and measurement.visits]
    if not rows:
        raise InputError(f"none of the {len(measurements)} measurements is complete; profile the device first")
    first = next((row for row in rows if len(row.workload.adapter)), rows[0])
    for row in rows:
        _check_alike(row, first)
    template = replace(first.workload, adapter=_common_adapter(rows))
    return TrainingRows(
        template=template,
        reference=first.reference,
        reference_s=max(rows, key=lambda row: (row.origin == "measured", row.taken_at)).reference_s,
        device=first.device,
        codes=codes_of([row.workload.adapter for row in rows], template.scope_sites),
        ratios=np.array([row.ratio.middle for row in rows]),
        groups=np.array([_groups(row) for row in rows]),
        openings=len({(row.session, visit.opening) for row in rows for visit in row.visits}),
        composed=sum(row.origin == "composed" for row in rows),
    )


def _groups(row: Measurement) -> tuple[str, str, str]:
    return row.workload.hash, f"{row.session} {min(visit.opening for visit in row.visits)}", row.session


def codes_of(configs: Sequence[AdapterConfig], sites: Sequence[Site]) -> NDArray[np.int64]:
    """Ranks as an array, shape (n, n_sites); a site that is not among the sites does not run and does not count."""
    if kinds := {config.kind for config in configs} - {"lora"}:
        raise InputError(f"predictors know LoRA adapters only, not {', '.join(kinds)}; measure it: adaptare overhead")
    rows = [[config.by_path.get(site.path, 0) for site in sites] for config in configs]
    return np.array(rows, dtype=np.int64).reshape(len(configs), len(sites))


def _check_alike(row: Measurement, first: Measurement) -> None:
    if row.device != first.device:
        raise InputError(
            f"a predictor is of one device; these are of {differences(row.device, first.device)}; fit one for each"
        )
    if row.reference.hash != first.reference.hash:
        raise InputError(
            f"ratios over different references do not compare; these are over {row.reference.hash} and "
            f"{first.reference.hash}; measure again what was measured beside another reference"
        )
    if not row.workload.open and 0 in row.workload.adapter.by_path.values():
        raise InputError(
            f"a site that is fed with rank 0 is not the same as none; predictors know that only where every site is "
            f"open and the mode is swappable, not of a {row.workload.describe()}"
        )
    ours, theirs = row.workload.to_json(), first.workload.to_json()
    ignored = ("adapter",) if len(row.workload.adapter) else ("adapter", "mode")
    unequal = [name for name in {**theirs, **ours} if name not in ignored and ours.get(name) != theirs.get(name)]
    if unequal:
        said = ", ".join(f"{name} {theirs.get(name)} and {ours.get(name)}" for name in unequal)
        raise InputError(
            f"measurements of one predictor differ only in the adapter; these have {said}; fit one for each"
        )


def _common_adapter(rows: Sequence[Measurement]) -> AdapterConfig:
    """What all rows have before any adapter comes: nothing, or every site open."""
    if not any(row.workload.open for row in rows):
        return AdapterConfig()
    shape = rows[0].workload.shape
    if partly := [row for row in rows if len(row.workload.adapter) < len(shape.sites)]:
        raise InputError(
            f"{len(partly)} of {len(rows)} measurements are of graphs without some sites, and others of graphs "
            "with every site; fit one predictor for each kind"
        )
    return AdapterConfig().uncut(shape)


def differences(ours: DeviceInfo, theirs: DeviceInfo) -> str:
    """Every field in which two device infos are unequal."""
    names = ("device", "hardware", "runtime", "threads", "options")
    unequal = [name for name in names if getattr(ours, name) != getattr(theirs, name)]
    return ", ".join(f"{name} {getattr(theirs, name)!r} and {getattr(ours, name)!r}" for name in unequal)
