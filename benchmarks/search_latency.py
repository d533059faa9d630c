"""Measured overhead of the choices that `search.py` compares, beside the budget and their test loss.

python benchmarks/search_latency.py --folder FOLDER [--json] [--parts 0.25 0.5 0.75] [--seeds 0 1 2]
    [--names winner MLPs ...] [--seconds 400] [--half-width 0.005] [--bf16]

FOLDER is that of `search.py`, whose losses are taken. All choices of all trainings and parts, or those of some names,
are measured in one session, interleaved with the base, on the device of the predictor; equal ones once. Measurements in
`FOLDER/latency.db` are not taken again.

A choice has met the budget if the whole 95 % interval of its overhead lies within it, and missed it if the whole
interval lies above; otherwise, and below four openings, it is ambiguous.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from recipe_latency import ends
from stock_process import conditions, say

from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Measurement, Store, precise_within, programs_for
from adaptare.workflows.profiling.campaign import Campaign
from adaptare.workflows.search.result import SearchResult, load_result
from adaptare.workflows.target import named_target
from adaptare.workflows.verification import judged
from search import PARTS, choices_of, folder_options, judge_of, predictor_of

# Seed, part of the overhead, and name of a choice.
Named = tuple[int, float, str]


def main() -> None:
    parser = folder_options(__doc__, PARTS)
    parser.add_argument("--names", nargs="+", help="of choices in the output of search.py; default: all")
    parser.add_argument("--seconds", type=float, default=400.0, help="of measuring, for each group")
    parser.add_argument("--half-width", type=float, default=0.005, help="of every 95 %% interval, relative")
    options = parser.parse_args()
    fitted = predictor_of(options.folder / "predictor")
    found = {named: config for seed in options.seeds for named, config in choices(options, fitted, seed)}
    measured = measurements(options, fitted, list(dict.fromkeys(found.values())))
    rows = [row_of(options, named, measured[config]) for named, config in found.items()]
    settings = {name: getattr(options, name) for name in ("parts", "seeds", "names", "bf16", "half_width")}
    result = {**conditions(1), "device": fitted.device.device, **settings, "rows": rows}
    print(json.dumps(result) if options.json else "\n".join(map(line, rows)))


def choices(options: argparse.Namespace, fitted: FittedPredictor, seed: int) -> Iterator[tuple[Named, Configuration]]:
    """All choices of one training but the base."""
    say(f"choices of seed {seed}")
    judge = judge_of(fitted, options.folder / f"run-{seed}", bf16=options.bf16)
    searches = {part: of_file(options.folder / f"search-{seed}-{part}.json") for part in options.parts}
    found = choices_of(judge, searches)
    known = list(dict.fromkeys(name for named in found.values() for name in named))
    wanted = known if options.names is None else options.names
    if unknown := next((name for name in wanted if name not in known), None):
        raise SystemExit(f"--names must be of {', '.join(known)}, not {unknown!r}")
    for part, named in found.items():
        yield from (((seed, part, name), named[name]) for name in wanted if name in named and named[name].ranks)


def measurements(
    options: argparse.Namespace, fitted: FittedPredictor, configs: list[Configuration]
) -> dict[Configuration, Measurement]:
    """Measurements of one session, or those of an earlier one that completed all."""
    target = named_target(None, fitted.device, fitted.template)
    wanted = [fitted.template.with_configuration(config) for config in configs]
    stop = precise_within(options.half_width, options.seconds)
    store = Store(options.folder / "latency.db")
    campaign = Campaign(target.device, programs_for(target.device.info()), store, stop, seed=0, resume=True)
    rows = campaign.kept(wanted) or campaign.measure(wanted, title="measuring")
    return {row.workload.configuration: row for row in rows}


def row_of(options: argparse.Namespace, named: Named, measurement: Measurement) -> dict[str, Any]:
    """A choice with its measured overhead, its position to the budget, and its loss on test examples."""
    seed, part, name = named
    front = front_of(options.folder / f"front-{seed}-{part}.json")
    losses = of_file(options.folder / f"losses-{seed}.json")
    of_search = next(row for row in losses if (row["part"], row["name"]) == (part, name))
    found = judged(measurement, front)
    row = {
        "seed": seed,
        "part": part,
        "name": name,
        **{key: of_search[key] for key in ("linears", "loss", "difference")},
    }
    row |= {"budget": front.budget.limit, "predicted": of_search["predicted_upper_s"] / front.base - 1}
    if not found.overhead:
        return row | {"failure": found.failure}
    return row | {
        "overhead": ends(found.overhead),
        "openings": measurement.opening_count(),
        "verdict": found.verdict,
    }


@cache
def front_of(file: Path) -> SearchResult:
    """Result of one search."""
    return load_result(file)


@cache
def of_file(file: Path) -> Any:
    """Content of a file of `search.py`."""
    if not file.exists():
        raise SystemExit(
            f"{file} does not exist; run benchmarks/search.py with this folder, these seeds and parts first"
        )
    return json.loads(file.read_text(encoding="utf-8"))


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    name = f"seed {row['seed']}, {row['part']:.0%} {row['name']:28} loss {row['loss']:.3f}"
    if "failure" in row:
        return f"{name}, not measured: {row['failure']}"
    middle, lower, upper = row["overhead"]
    overhead = f"{middle:+.1%} [{lower:+.1%}, {upper:+.1%}], predicted at most {row['predicted']:+.1%}"
    return f"{name}, {overhead}, budget {row['budget']:+.1%}: {row['verdict']}"


if __name__ == "__main__":
    main()
