"""The same workloads in two sets of measurements, or those of two adapters: what one takes over the other."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptare.console import Console, between, milliseconds, percent
from adaptare.devices import AdaptareError, DeviceInfo, InputError
from adaptare.profiler import (
    EQUIVALENCE_BAND,
    Configuration,
    Interval,
    Measurement,
    Origin,
    Verdict,
    Workload,
    device_hash,
    device_to_json,
    overhead,
    read_peft,
    verdict,
)
from adaptare.target import target_of

SHORT_HASH = 8
# Of both, the best to compare first.
ORIGINS: Sequence[tuple[Origin, Origin]] = (
    ("measured", "measured"),
    ("composed", "composed"),
    ("measured", "composed"),
    ("composed", "measured"),
)


@dataclass(frozen=True)
class Compared:
    """One workload in both.

    Args:
        workload: Its hash in the second.
        name: Of the workload, for people.
        sites: Adapted linears.
        parameters: Weights of the adapter.
        one_s: Latency in the first, seconds.
        other_s: In the second.
        difference: What was compared in the second over the first, minus one.
        verdict: Of the second.
        origin: `measured`, `composed`, or both, where one of the two was composed from stubs.
        within_one_opening: True if one of the two was measured in a single opening.
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
    within_one_opening: bool


def of_device(measurements: Sequence[Measurement], spelling: str | None, place: str) -> list[Measurement]:
    """Those that were taken on one device.

    Args:
        measurements: Of any devices.
        spelling: As the device was spelled when they were taken, or the first digits of its hash, which tell apart
            what is spelled alike, as two versions of a runtime; `None` where there is only one.
        place: Where they are from, for people.

    Raises:
        InputError: There is none, or there are several and none was named.
    """
    infos = list(dict.fromkeys(each.device for each in measurements))
    known = "; ".join(dict.fromkeys(named(info) for info in infos)) or "nothing"
    spellings = (spelling, _in_full(spelling)) if spelling else ()
    chosen = [info for info in infos if not spelling or info.device in spellings or _is_hash(spelling, info)]
    if not chosen:
        raise InputError(
            f"{place} has no measurements{f' of {spelling!r}' if spelling else ''}; it has {known}; "
            "name one of these with --device, or measure with: adaptare profile"
        )
    if len(chosen) > 1:
        raise InputError(
            f"{place} has measurements of several devices: {known}; name one by its spelling, or by its "
            "hash where two are spelled alike"
        )
    return [each for each in measurements if each.device == chosen[0]]


def differing(one: DeviceInfo, other: DeviceInfo) -> list[str]:
    """What is not the same about two devices."""
    theirs = device_to_json(other)
    return [
        f"{name} {value!r} and {theirs[name]!r}" for name, value in device_to_json(one).items() if value != theirs[name]
    ]


def of_adapter(measurements: Sequence[Measurement], folder: Path, place: str) -> list[Measurement]:
    """Those of the sites and ranks that an adapter folder has.

    Raises:
        InputError: There is none, or the adapter fits no base model that was measured.
    """
    configs = _configs(folder, measurements)
    found = [each for each in measurements if each.workload.configuration == configs.get(each.workload.shape.hash)]
    if not found:
        raise InputError(f"{place} has no measurement of {str(folder)!r}; make one with: adaptare overhead")
    return found


def _configs(folder: Path, measurements: Sequence[Measurement]) -> dict[str, Configuration]:
    """What the folder means for each shape it fits, by the shape's hash."""
    shapes = {each.workload.shape.hash: each.workload.shape for each in measurements}
    found, refused = {}, None
    for name, shape in shapes.items():
        try:
            found[name] = read_peft(folder, shape)
        except InputError as error:
            refused = error
    if refused and not found:
        raise refused
    return found


def compare(
    one: Sequence[Measurement],
    other: Sequence[Measurement],
    *,
    latencies: bool,
    across_adapters: bool = False,
    band: float = EQUIVALENCE_BAND,
) -> list[Compared]:
    """Every workload that both have, by the last complete measurement of each; paired where they share rounds.

    What was composed from stubs counts only where the two have no whole measurement in common.

    Args:
        one: Of one device.
        other: Of one device, which may be another.
        latencies: Whether latencies are compared; else what is slower than the base, by how much, in each.
        across_adapters: Whether each is of one adapter, and workloads are the same but for that.
        band: Differences up to this share are the same.
    """

    def name(workload: Workload) -> Hashable:
        return (workload.base, workload.mode, workload.graph) if across_adapters else workload

    first, second = (
        {(name(each.workload), each.origin): each for each in some if each.complete and each.visits}
        for some in (one, other)
    )
    pairs: dict[Hashable, tuple[Measurement, Measurement]] = {}
    for ours, theirs in ORIGINS:
        for each in dict.fromkeys(named for named, _ in first):
            if (each, ours) in first and (each, theirs) in second:
                pairs.setdefault(each, (first[each, ours], second[each, theirs]))
    return [_compared(*pair, latencies=latencies, band=band) for pair in pairs.values()]


def show_compared(rows: Sequence[Compared], console: Console, *, title: str) -> None:
    """A table, and how often each verdict was given."""
    console.table(
        title,
        ["workload", "sites", "weights", "ms", "ms there", "difference", "95 % interval", "verdict"],
        [
            [
                row.name if row.origin == "measured" else f"{row.name}, {row.origin}",
                str(row.sites),
                f"{row.parameters:,}",
                milliseconds(row.one_s),
                milliseconds(row.other_s),
                percent(row.difference.middle),
                between(
                    percent(row.difference.lower),
                    percent(row.difference.upper),
                    within_one_opening=row.within_one_opening,
                ),
                row.verdict,
            ]
            for row in rows
        ],
    )
    console.say(", ".join(f"{count} {name}" for name, count in counts_of(rows).items() if count))


def counts_of(rows: Sequence[Compared]) -> dict[str, int]:
    """How often each verdict was given."""
    known: tuple[Verdict, ...] = ("faster", "same", "slower", "ambiguous")
    return {name: sum(row.verdict == name for row in rows) for name in known}


def _compared(one: Measurement, other: Measurement, *, latencies: bool, band: float) -> Compared:
    same = one.session == other.session and one.device == other.device
    together = same and one.visits[0].round == other.visits[0].round
    difference = overhead(other, one) if together else _independent(one, other, latencies=latencies)
    workload = other.workload
    return Compared(
        workload=workload.hash,
        name=workload.describe(),
        sites=len(workload.configuration.ranks),
        parameters=workload.configuration.adapter_parameters(workload.shape),
        one_s=one.latency_s,
        other_s=other.latency_s,
        difference=difference,
        verdict=verdict(difference, band=band),
        origin=" and ".join(dict.fromkeys((one.origin, other.origin))),
        within_one_opening=one.within_one_opening or other.within_one_opening,
    )


def _independent(one: Measurement, other: Measurement, *, latencies: bool) -> Interval:
    """Of two that share no rounds, so that their errors add as those of independent measurements do.

    A latency is a ratio times what the base took, so that both of these errors count.
    """
    over, under = [other.ratio], [one.ratio]
    if latencies:
        over.append(other.reference_interval)
        under.append(one.reference_interval)
    scale = other.reference_s / one.reference_s if latencies else 1.0
    middle = scale * other.ratio.middle / one.ratio.middle
    below = math.hypot(*(_log(each.middle, each.lower) for each in over), *(_log(e.upper, e.middle) for e in under))
    above = math.hypot(*(_log(each.upper, each.middle) for each in over), *(_log(e.middle, e.lower) for e in under))
    return Interval(middle * math.exp(-below) - 1, middle - 1, middle * math.exp(above) - 1)


def _log(large: float, small: float) -> float:
    return math.log(large / small)


def _in_full(spelling: str) -> str:
    """As a measurement spells the device, with all that goes without saying; unchanged if it cannot be reached."""
    try:
        return target_of(spelling).device.info().device
    except AdaptareError:
        return spelling


def _is_hash(spelling: str, info: DeviceInfo) -> bool:
    return len(spelling) >= SHORT_HASH and device_hash(info).startswith(spelling)


def named(info: DeviceInfo) -> str:
    """For people: the spelling, and what tells apart what is spelled alike."""
    return f"{info.device} ({info.hardware}, {info.runtime}, hash {device_hash(info)[:SHORT_HASH]})"
