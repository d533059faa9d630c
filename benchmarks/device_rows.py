"""One phase on one device, for devices.py: swappable adapters beside their base, as `adaptare overhead` measures them.

python benchmarks/device_rows.py SPELLING {prefill,decode} [--model smollm2-135m] [--seconds 30] [--stubs]
    [--store FILE]

Ranks 1, 16 and 64 on all linears, and 16 on q and v, as in the table of the README. A model that the memory does not
hold is composed from stubs, as with `--stubs`. Prints a JSON object: its `rows`, and as `why` the reasons of those that
are missing.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptare.core import AdaptareError, InputError
from adaptare.profiler import (
    Measurement,
    ModelShape,
    Store,
    Workload,
    open_model,
    precise_within,
    programs_for,
)
from adaptare.profiler.measuring.session import Session
from adaptare.profiler.measuring.stubs import FEWEST_LAYERS
from adaptare.workflows.grid import Case, cases_of
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.target import Target, target_of

PHASES = ("prefill", "decode")
LENGTH, PRECISION = 64, 0.005
# Placement and rank.
ADAPTERS = (("all", 1), ("all", 16), ("all", 64), ("q_proj,v_proj", 16))
TOO_LARGE = "compose it from stubs"


def template(target: Target, shape: ModelShape, phase: str) -> Workload:
    """The base in one phase."""
    base = Workload(shape, **target.weights)
    return replace(base, phase="prefill", tokens=LENGTH) if phase == "prefill" else replace(base, past=LENGTH)


def cases_for(base: Workload) -> list[Case]:
    """Adapters, in the order of the table."""
    return [case for place, rank in ADAPTERS for case in cases_of(base.shape, [], ranks=[rank], placements=[place])]


def measured(
    spelling: str, phase: str, *, model: str, seconds: float, stubs: bool, store: Path
) -> tuple[list[dict[str, Any]], str]:
    """Rows of one phase, and the reasons of those that are missing. Raises `AdaptareError`."""
    target = target_of(spelling)
    programs = programs_for(target.device.info())
    shape = open_model(model).shape
    base, stubs = template(target, shape, phase), stubs and shape.layers >= FEWEST_LAYERS[-1]
    workloads = {case.on(base): case for case in cases_for(base)}
    if not stubs:
        try:
            Session(target.device, programs=programs).split(list(workloads), reference=base.base)
        except InputError as error:
            if TOO_LARGE not in str(error):
                raise
            stubs = True
    campaign = Campaign(target.device, programs, Store(store), precise_within(PRECISION, seconds), 0, stubs=stubs)
    found = campaign.measure(list(workloads), title=phase)
    failures = {each.failure for each in found if each.failure}
    whole = [(workloads[each.workload], each) for each in found if not each.failure]
    weights = target.dtype if target.quantisation == "none" else target.quantisation
    rows = [row_of(case, each, weights) for case, each in whole]
    return [base_row(row) for row in rows[:1]] + rows, "; ".join(sorted(failures))


def row_of(case: Case, found: Measurement, weights: str) -> dict[str, Any]:
    """An adapter beside its base; seconds are those of one call."""
    share = found.overhead
    return {
        "base": weights,
        "mode": found.workload.mode,
        "phase": found.workload.phase,
        "rank": case.rank,
        "sites": case.placement,
        "latency_s": found.latency_s,
        "overhead": share.middle,
        "lower": share.lower,
        "upper": share.upper,
        "base_s": found.reference_s,
        "origin": found.origin,
        "resident_bytes": found.resident_bytes,
        "openings": len(set(found.openings.tolist())),
        "too_few_openings": found.too_few_openings,
        "providers": dict(found.environment.get("providers", {})),
    }


def base_row(row: dict[str, Any]) -> dict[str, Any]:
    """The base, to which every overhead is relative."""
    none = {"mode": "base", "rank": 0, "sites": "none", "overhead": 0.0, "lower": 0.0, "upper": 0.0, "providers": {}}
    return {**row, **none, "latency_s": row["base_s"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spelling")
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--seconds", type=float, default=30.0, help="loading included")
    parser.add_argument("--stubs", action="store_true", help="composes it also where it fits")
    parser.add_argument("--store", type=Path, help="keeps all samples")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        chosen = {"model": options.model, "seconds": options.seconds, "stubs": options.stubs}
        try:
            rows, why = measured(
                options.spelling, options.phase, store=options.store or Path(place) / "store.db", **chosen
            )
        except AdaptareError as error:
            print(error, file=sys.stderr)
            return 2
    print(json.dumps({"rows": rows, "why": why}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
