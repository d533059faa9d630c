"""Comparison of the same workloads in two sets of measurements, or of the workloads of two adapters."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adaptare.core import AdaptareError, InputError
from adaptare.core.progress import SILENT, Feedback
from adaptare.devices import DeviceInfo
from adaptare.profiler import Configuration, Measurement, Store, Workload, read_peft
from adaptare.profiler.analysis import EQUIVALENCE_BAND, Interval, Verdict, verdict
from adaptare.profiler.store import Origin, overhead
from adaptare.workflows.reading import read_store
from adaptare.workflows.target import target_of

SHORT_HASH = 8
# Origins of both measurements, in order of preference.
ORIGINS: Sequence[tuple[Origin, Origin]] = (
    ("measured", "measured"),
    ("composed", "composed"),
    ("measured", "composed"),
    ("composed", "measured"),
)


@dataclass(frozen=True)
class Compared:
    """One workload in both sets.

    Args:
        workload: Hash of the workload in the second set.
        parameters: Weights of the adapter.
        one_s: Latency in the first set, seconds.
        other_s: Latency in the second set, seconds.
        difference: Overhead or latency in the second set relative to the first, minus one.
        origin: `measured`, `composed`, or both, if one of the two was composed from stubs.
        too_few_openings: Number of openings, if these are too few for an interval; else 0.
    """

    workload: str
    name: str
    sites: int
    parameters: int
    one_s: float
    other_s: float
    difference: Interval
    verdict: Verdict
    origin: str
    too_few_openings: int


@dataclass(frozen=True)
class Comparison:
    """Result of `compare_stores`.

    Args:
        one: Store, device and adapter of the first set; `other` of the second.
        compared: `overhead`, or `latency` if the devices differ.
        counts: Number of rows per verdict.
        band: Equivalence band; smaller differences count as the same.
    """

    one: str
    other: str
    compared: Literal["overhead", "latency"]
    rows: Sequence[Compared]
    counts: Mapping[Verdict, int]
    band: float


def compare_stores(
    here: Store,
    there: Store,
    *,
    device: str | None,
    other_device: str | None,
    adapter: Path | None,
    other_adapter: Path | None,
    band: float,
    feedback: Feedback = SILENT,
) -> Comparison:
    """Compares the workloads that two stores have in common, or those of two devices or adapters.

    Args:
        here: Store of the first set.
        there: Store of the second set; may be the same.
        device: See `of_device`; `other_device` is the device in `there`, by default the same.
        adapter: PEFT folder that selects one adapter; `other_adapter` is the one in `there`.
        band: Equivalence band; smaller differences count as the same.
        feedback: Receives progress.

    Raises:
        InputError: Nothing is in common, or the devices differ and the second was not given.
    """
    ours = read_store(here, feedback)
    theirs = ours if there.location == here.location else read_store(there, feedback)
    one = of_device(ours, device, here.location)
    parameter = "other_device" if other_device else "device"
    second = of_device(theirs, other_device or device, there.location, parameter=parameter)
    unlike = differing(one[0].device, second[0].device)
    if unlike and other_device is None:
        raise InputError(
            f"the devices differ in {'; '.join(unlike)}; to compare two devices, name the second, "
            f"{second[0].device.device}, as well",
            parameter="other_device",
        )
    if adapter:
        other_adapter = other_adapter or adapter
        one = of_adapter(one, adapter, here.location)
        second = of_adapter(second, other_adapter, there.location)
    rows = compare(one, second, latencies=bool(unlike), across_adapters=adapter is not None, band=band)
    if not rows:
        raise InputError("no workload was measured in both; profile the same model, phase, mode and space in each")
    first = f"{here.location}, {one[0].device.device}{f', {adapter}' if adapter else ''}"
    other = f"{there.location}, {second[0].device.device}{f', {other_adapter}' if other_adapter else ''}"
    return Comparison(first, other, "latency" if unlike else "overhead", rows, counts_of(rows), band)


def of_device(
    measurements: Sequence[Measurement], spelling: str | None, place: str, *, parameter: str = "device"
) -> list[Measurement]:
    """Measurements taken on one device.

    Args:
        measurements: Measurements from any devices.
        spelling: Spelling of the device at the time of measurement, or the first digits of its hash, which distinguish
            devices of the same spelling, such as two versions of a runtime; `None` if there is only one.
        place: Display name of their store.
        parameter: Name of the parameter that selects it.

    Raises:
        InputError: There is none, or there are several and none was selected.
    """
    infos = list(dict.fromkeys(row.device for row in measurements))
    known = "; ".join(dict.fromkeys(named(info) for info in infos)) or "nothing"
    spellings = (spelling, _in_full(spelling)) if spelling else ()
    chosen = [
        info
        for info in infos
        if not spelling or info.device in spellings or (len(spelling) >= SHORT_HASH and info.hash.startswith(spelling))
    ]
    if not chosen:
        raise InputError(
            f"{place} has no measurements{f' of {spelling!r}' if spelling else ''}; it has {known}; "
            "name one of these, or measure first",
            parameter=parameter,
        )
    if len(chosen) > 1:
        raise InputError(
            f"{place} has measurements of several devices: {known}; name one by its spelling, or by its "
            "hash where two are spelled alike"
        )
    return [row for row in measurements if row.device == chosen[0]]


def differing(one: DeviceInfo, other: DeviceInfo) -> list[str]:
    """Differences between two devices."""
    theirs = other.to_json()
    return [f"{name} {value!r} and {theirs[name]!r}" for name, value in one.to_json().items() if value != theirs[name]]


def of_adapter(measurements: Sequence[Measurement], folder: Path, place: str) -> list[Measurement]:
    """Measurements with the sites and ranks of an adapter folder.

    Raises:
        InputError: There is none, or the adapter fits none of the measured base models.
    """
    configs, refused = dict[str, Configuration](), None
    for name, shape in {row.workload.shape.hash: row.workload.shape for row in measurements}.items():
        try:
            configs[name] = read_peft(folder, shape)
        except InputError as error:
            refused = error
    if refused and not configs:
        raise refused
    chosen = [row for row in measurements if row.workload.configuration == configs.get(row.workload.shape.hash)]
    if not chosen:
        raise InputError(f"{place} has no measurement of {str(folder)!r}; measure it first")
    return chosen


def compare(
    one: Sequence[Measurement],
    other: Sequence[Measurement],
    *,
    latencies: bool,
    across_adapters: bool = False,
    band: float = EQUIVALENCE_BAND,
) -> list[Compared]:
    """Compares the workloads in both sets by the last complete measurement of each; paired if they share rounds.

    Measurements composed from stubs count only if the sets have no whole measurement in common.

    Args:
        one: Measurements of one device.
        other: Measurements of one device, which may be another.
        latencies: If true, compares latencies; otherwise overheads relative to the base in the same set.
        across_adapters: If true, each set is of one adapter, and workloads match if they differ in it only.
        band: Equivalence band; smaller differences count as the same.
    """

    def name(workload: Workload) -> Hashable:
        return (workload.base, workload.mode, workload.graph) if across_adapters else workload

    first, second = (
        {(name(row.workload), row.origin): row for row in some if row.complete and row.visits} for some in (one, other)
    )
    pairs: dict[Hashable, tuple[Measurement, Measurement]] = {}
    for ours, theirs in ORIGINS:
        for key in dict.fromkeys(named for named, _ in first):
            if (key, ours) in first and (key, theirs) in second:
                pairs.setdefault(key, (first[key, ours], second[key, theirs]))
    return [_compared(*pair, latencies=latencies, band=band) for pair in pairs.values()]


def counts_of(rows: Sequence[Compared]) -> dict[Verdict, int]:
    """Number of rows per verdict."""
    known: tuple[Verdict, ...] = ("faster", "same", "slower", "ambiguous")
    return {name: sum(row.verdict == name for row in rows) for name in known}


def _compared(one: Measurement, other: Measurement, *, latencies: bool, band: float) -> Compared:
    same = one.session == other.session and one.device == other.device
    together = same and one.visits[0].round == other.visits[0].round
    difference = overhead(other, one) if together else _independent(one, other, latencies=latencies)
    workload, too_few = other.workload, one.too_few_openings or other.too_few_openings
    return Compared(
        workload=workload.hash,
        name=workload.describe(),
        sites=len(workload.configuration.ranks),
        parameters=workload.configuration.adapter_parameters(workload.shape),
        one_s=one.latency_s,
        other_s=other.latency_s,
        difference=difference,
        verdict=verdict(difference, band=band, too_few=bool(too_few)),
        origin=" and ".join(dict.fromkeys((one.origin, other.origin))),
        too_few_openings=too_few,
    )


def _independent(one: Measurement, other: Measurement, *, latencies: bool) -> Interval:
    """Difference of two measurements without common rounds, with errors added as for independent measurements.

    A latency is a ratio times the seconds of the base, so the errors of both count.
    """
    over, under = [other.ratio], [one.ratio]
    if latencies:
        over.append(other.reference_interval)
        under.append(one.reference_interval)
    scale = other.reference_s / one.reference_s if latencies else 1.0
    middle = scale * other.ratio.middle / one.ratio.middle
    if not all(each.lower > 0 and each.upper < math.inf for each in (*over, *under)):  # too few rounds for an interval
        return Interval(-1.0, middle - 1, math.inf)
    below = math.hypot(*(math.log(o.middle / o.lower) for o in over), *(math.log(u.upper / u.middle) for u in under))
    above = math.hypot(*(math.log(o.upper / o.middle) for o in over), *(math.log(u.middle / u.lower) for u in under))
    return Interval(middle * math.exp(-below) - 1, middle - 1, middle * math.exp(above) - 1)


def _in_full(spelling: str) -> str:
    """Spelling of the device in measurements, including defaults; unchanged if it cannot be reached."""
    try:
        return target_of(spelling).device.info().device
    except AdaptareError:
        return spelling


def named(info: DeviceInfo) -> str:
    """Display name: spelling, and facts that distinguish devices of the same spelling."""
    return f"{info.device} ({info.hardware}, {info.runtime}, hash {info.hash[:SHORT_HASH]})"
