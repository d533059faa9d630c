"""Latency of adapted and narrowed models on several devices, beside their base.

python benchmarks/recipe_latency.py benchmarks/measured/recipes.json [--only PART ...] [--seconds 30]
    [--store recipe-latency.db] [--model smollm2-135m] [--device NAME ...]

Measures the configurations of an earlier `recipes.py` again, without training, and prints that file with the new rows
of these devices.
Measurements in the store are not taken again, so a call that was interrupted goes on, and parts share what they have in
common.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from adaptare.profiler import (
    WIDTH,
    Configuration,
    Measurement,
    Programs,
    Space,
    Store,
    Workload,
    open_model,
    precise_within,
    programs_for,
)
from adaptare.profiler.analysis.intervals import Interval
from adaptare.profiler.workloads.workload import Phase
from adaptare.search.recipes.recipe import recipe_named
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.target import target_of

LENGTH = 64
HALF_WIDTH = 0.01
INT4_DEVICE = "ort-cpu:int4,threads=1"
INT4_RANKS = (8, 16, 32)
DEVICES = ("torch-cpu:threads=1", "ort-cpu:threads=1", INT4_DEVICE)


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
        seconds: Time limit of each device, phase and workload, for all of a phase together.
        store: File of the measurements; those that it has are not taken again.
    """
    shape, rows = open_model(model).shape, []
    for device in devices:
        target = target_of(device)
        programs = programs_for(target.device.info())
        for phase in get_args(Phase):
            template = Workload(shape, phase=phase, tokens=LENGTH, past=LENGTH, **target.weights)
            named = [
                (name, workload)
                for name, config in configs.items()
                for workload in workloads_of(template.with_configuration(config), programs, apart, merged)
            ]
            wanted = list(dict.fromkeys(workload for _, workload in named))
            stop = precise_within(HALF_WIDTH, seconds * len(wanted))
            campaign = Campaign(target.device, programs, Store(store), stop, seed=0, resume=True)
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
        yield workload.folded.with_configuration(config.without_adapter if config.by_layer else config)


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
        "too_few_openings": measurement.too_few_openings,
    }


def ends(interval: Interval) -> list[float]:
    """Middle, lower and upper end."""
    return [interval.middle, interval.lower, interval.upper]


def uniform_configs(space: Space) -> dict[str, Configuration]:
    """Configurations that have the same choice in every dimension, by the name of their rank."""
    codes = [space.at(np.full((1, space.n_axes), gene))[0] for gene in range(int(space.n_choices.min()))]
    return {f"rank {row.max()}": space.decode(row) for row in codes}


def again(name: str, part: Mapping[str, Any], options: argparse.Namespace) -> list[dict[str, Any]]:
    """Latency of the configurations of a part that `recipes.py` found."""
    shape = open_model(options.model).shape
    known = (INT4_DEVICE,) if name == "int4" else DEVICES
    devices = [each for each in known if each in options.device]
    measure = partial(latency_rows, options.model, devices=devices, seconds=options.seconds, store=options.store)
    if name == "int4":
        configs = uniform_configs(recipe_named("shears").space(shape, ranks=INT4_RANKS))
        return measure(configs, apart=True, merged=True)
    recipe = recipe_named(name)
    space = recipe.space(shape, ranks=recipe.ranks)
    configs = {"start": space.decode(space.at(recipe.start(space)))}
    if WIDTH in space.kinds:
        found = part["searched"]
        configs["searched"] = Configuration.from_json({name: found[name] for name in ("ranks", "widths")})
    apart = recipe.layer.separable
    merged = part["weights"]["start"]["zeros_after_merge"] is not None
    return measure(configs, apart=apart, merged=merged)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", nargs="+", help="default: all but those of other seeds, such as `lonas, seed 1`")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each device, phase and workload")
    parser.add_argument("--store", type=Path, default=Path("recipe-latency.db"))
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--device", nargs="+", choices=DEVICES, default=list(DEVICES))
    options = parser.parse_args()
    if not options.file.is_file():
        parser.error(f"{options.file} is missing; name a file of parts such as benchmarks/measured/recipes.json")
    parts = json.loads(options.file.read_text(encoding="utf-8"))
    known = [name for name in parts if "," not in name]
    if unknown := set(options.only or ()) - set(known):
        parser.error(f"--only takes {', '.join(known)}, which the file has, not {', '.join(unknown)}")
    for name in options.only or known:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        found = parts[name]["found"]
        kept = [row for row in found.get("latency", ()) if row["device"] not in options.device]
        found["latency"] = [*kept, *again(name, found, options)]
    print(json.dumps(parts, indent=1))


if __name__ == "__main__":
    main()
