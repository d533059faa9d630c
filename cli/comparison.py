"""The same workloads in two sets of measurements: what one takes over the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from adaptare.devices import DeviceInfo, InputError
from adaptare.profiler import Interval, Measurement, Verdict, device_to_json, verdict


@dataclass(frozen=True)
class Compared:
    """One workload in both.

    Args:
        name: Of the workload, for people.
        sites: Adapted linears.
        parameters: Weights of the adapter.
        one_s: Latency in the first, seconds.
        other_s: In the second.
        difference: What was compared in the second over the first, minus one.
        verdict: Of the second.
    """

    name: str
    sites: int
    parameters: int
    one_s: float
    other_s: float
    difference: Interval
    verdict: Verdict


def of_device(measurements: Sequence[Measurement], spelling: str | None, place: str) -> list[Measurement]:
    """Those that were taken on one device, as it was spelled when they were taken.

    Raises:
        InputError: There is none, or there are several and none was named.
    """
    infos = list(dict.fromkeys(each.device for each in measurements))
    known = "; ".join(dict.fromkeys(_named(info) for info in infos)) or "nothing"
    chosen = [info for info in infos if spelling in (None, info.device)]
    if not chosen:
        raise InputError(f"{place} has no measurements{f' of {spelling!r}' if spelling else ''}; it has {known}")
    if len(chosen) > 1:
        raise InputError(f"{place} has measurements of several devices: {known}; name one with --device")
    return [each for each in measurements if each.device == chosen[0]]


def differing(one: DeviceInfo, other: DeviceInfo) -> list[str]:
    """What is not the same about two devices, but for the step of the clock."""
    theirs = device_to_json(other)
    return [
        f"{name} {value!r} and {theirs[name]!r}"
        for name, value in device_to_json(one).items()
        if name != "timer_step_s" and value != theirs[name]
    ]


def compare(one: Sequence[Measurement], other: Sequence[Measurement], *, latencies: bool) -> list[Compared]:
    """Every workload that both have, by the last complete measurement of each.

    Args:
        one: Of one device.
        other: Of one device, which may be another.
        latencies: Whether latencies are compared; else what is slower than the base, by how much, in each.

    Raises:
        InputError: They have no workload in common.
    """
    first, second = ({each.workload: each for each in some if each.complete and each.visits} for some in (one, other))
    both = [workload for workload in first if workload in second]
    if not both:
        raise InputError("no workload was measured in both; profile the same model, phase, mode and space in each")
    return [_compared(first[workload], second[workload], latencies=latencies) for workload in both]


def _compared(one: Measurement, other: Measurement, *, latencies: bool) -> Compared:
    scale = other.reference_s / one.reference_s if latencies else 1.0
    middle = scale * other.ratio.middle / one.ratio.middle
    # Two sessions share no rounds, so their errors add as those of independent measurements do.
    below = math.hypot(*(_log(other.ratio.middle, other.ratio.lower), _log(one.ratio.upper, one.ratio.middle)))
    above = math.hypot(*(_log(other.ratio.upper, other.ratio.middle), _log(one.ratio.middle, one.ratio.lower)))
    difference = Interval(middle * math.exp(-below) - 1, middle - 1, middle * math.exp(above) - 1)
    workload = one.workload
    return Compared(
        name=workload.describe(),
        sites=len(workload.adapter),
        parameters=workload.adapter.adapter_parameters(workload.shape),
        one_s=one.latency_s,
        other_s=other.latency_s,
        difference=difference,
        verdict=verdict(difference),
    )


def _log(large: float, small: float) -> float:
    return math.log(large / small)


def _named(info: DeviceInfo) -> str:
    return f"{info.device} ({info.hardware}, {info.runtime})"
