"""Latency of adapted and narrowed models on several devices, beside their base."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from adaptare.profiler import (
    Configuration,
    Measurement,
    Programs,
    Store,
    Workload,
    open_model,
    precise_within,
    programs_for,
)
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.campaigns.campaign import Campaign
from adaptare.profiler.campaigns.target import target_of
from adaptare.profiler.workloads.workload import Phase

LENGTH = 64
HALF_WIDTH = 0.01


def latency_rows(
    model: str,
    configs: Mapping[str, Configuration],
    *,
    apart: bool,
    merged: bool,
    devices: Sequence[str],
    seconds: float,
    store: Path,
) -> list[dict[str, Any]]:
    """Latency of configurations in every mode, each with its overhead over the base, with 95 % intervals.

    Args:
        model: Spelling of the model.
        configs: Name -> ranks and widths.
        apart: True to time adapters apart from the base, in all modes of the runtime but `padded`.
        merged: True to time the weights that a merge gives.
        devices: Spellings of the devices.
        seconds: Time limit of each device and phase.
        store: File of the measurements; those that it has are not taken again.
    """
    shape, rows = open_model(model).shape, []
    for device in devices:
        target = target_of(device)
        programs = programs_for(target.device.info())
        stop = precise_within(HALF_WIDTH, seconds)
        campaign = Campaign(target.device, programs, Store(store), stop, seed=0, resume=True)
        for phase in get_args(Phase):
            template = Workload(shape, phase=phase, tokens=LENGTH, past=LENGTH, **target.weights)
            named = [
                (name, workload)
                for name, config in configs.items()
                for workload in workloads_of(template.with_configuration(config), programs, apart, merged)
            ]
            wanted = list(dict.fromkeys(workload for _, workload in named))
            found = {each.workload: each for each in campaign.kept(wanted) or campaign.measure(wanted, title=phase)}
            rows += [{"device": device, "of": name, **row_of(found[workload])} for name, workload in named]
    return rows


def workloads_of(workload: Workload, programs: Programs, apart: bool, merged: bool) -> Iterator[Workload]:
    """The modes of an adapter. A merged one does not change the latency of a narrower model, so its widths suffice."""
    if apart:
        modes = [mode for mode in programs.modes(workload) if mode in ("swappable", "static")]
        yield from (replace(workload, mode=mode) for mode in modes)
    if merged:
        config = workload.configuration
        yield workload.folded.with_configuration(config.without_adapter if config.widths else config)


def row_of(measurement: Measurement) -> dict[str, Any]:
    """One measurement, or the reason of its failure."""
    workload = measurement.workload
    where = {"phase": workload.phase, "mode": workload.mode}
    if measurement.failure:
        return {**where, "failure": measurement.failure}
    return {
        **where,
        "base_s": measurement.reference_s,
        "latency_s": [measurement.latency_s, measurement.lower_s, measurement.upper_s],
        "overhead": ends(measurement.overhead),
        "within_one_opening": measurement.within_one_opening,
    }


def ends(interval: Interval) -> list[float]:
    """Middle, lower and upper end."""
    return [interval.middle, interval.lower, interval.upper]
