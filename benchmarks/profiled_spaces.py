"""Error of predictors of equally many adapters, profiled in different spaces, for placements that searches consider.

python benchmarks/profiled_spaces.py [--json] [--folder profiled-spaces] [--model smollm2-135m]
    [--device ort-cpu:int4,threads=1] [--spaces blocks sites] [--count 24] [--seconds 500] [--half-width 0.005]

For each space, adapters of ranks 0 to 16 are profiled in decode (`adaptare profile`), and a predictor is fitted. Then
other placements are measured together: sets of kinds of linears in every layer or every second one, which no point of
`blocks` is, and points of `blocks`. The error of a predictor is the absolute difference between predicted and measured
overhead, in points; it contains the error of the measurement. Means have 95 % intervals over placements, and
`difference` is between a space and the first, paired by placement.

Every part keeps its result in the folder, and the same command goes on with what is missing.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from below_base import command, kept
from recipe_latency import ends
from search_latency import measurements
from stock_process import conditions, mean_interval

from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Measurement, ModelShape, named_space
from adaptare.workflows.tuning import RANKS
from search import ATTENTION, DECODE, MLP, predictor_of

SETS = {
    "all linears": (*ATTENTION, *MLP),
    "attention": ATTENTION,
    "MLPs": MLP,
    "q and v": ("q_proj", "v_proj"),
    "v, gate and down": ("v_proj", "gate_proj", "down_proj"),
    "v, o and up": ("v_proj", "o_proj", "up_proj"),
}
DRAWN = 8
Named = dict[tuple[str, str], Configuration]


def main() -> None:
    options = parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    fitted = {space: predictor_of(profiled(options, space)) for space in options.spaces}
    first = next(iter(fitted.values()))
    placements = judged(first.features.template.shape)
    measured = measurements(options, first, list(placements.values()))
    rows = [row for space, each in fitted.items() for row in compared(space, each, placements, measured)]
    names = ("model", "device", "spaces", "count", "seconds", "half_width")
    settings = {name: getattr(options, name) for name in names}
    errors = {space: each.error_card.mae_overhead_points for space, each in fitted.items()}
    result = {**conditions(1), **settings, "held_out_points": errors, "means": list(means(rows)), "rows": rows}
    print(json.dumps(result) if options.json else "\n".join(map(line, result["means"])))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--folder", type=Path, default=Path("profiled-spaces"))
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--device", default="ort-cpu:int4,threads=1")
    found.add_argument("--spaces", nargs="+", default=["blocks", "sites"])
    found.add_argument("--count", type=int, default=24, help="adapters to profile in each space")
    found.add_argument("--seconds", type=float, default=500.0, help="of measuring, for each group")
    found.add_argument("--half-width", type=float, default=0.005, help="of every 95 %% interval, relative")
    return found


def profiled(options: argparse.Namespace, space: str) -> Path:
    """A predictor of swappable adapters of one space."""
    predictor: Path = options.folder / f"predictor-{space}"
    on = ("--device", options.device, "--store", options.folder / f"{space}.db", *DECODE, "--mode", "swappable")
    pace = ("--count", options.count, "--half-width", f"{options.half_width:%}", "--seconds", options.seconds)
    ranks = ("--space", space, "--rank", ",".join(map(str, RANKS)))
    kept(options.folder / f"profile-{space}.json", partial(command, "profile", options.model, *on, *pace, *ranks))
    kept(options.folder / f"fit-{space}.json", partial(command, "fit", *on, "-o", predictor))
    return predictor


def judged(shape: ModelShape) -> Named:
    """Placements by group and name."""
    found: Named = {}
    for name, kinds in SETS.items():
        for every, rank in ((1, RANKS[-1]), (1, RANKS[1]), (2, RANKS[-1])):
            sites = [site for site in shape.sites if site.kind in kinds and site.layer % every == every - 1]
            config = Configuration.of({site.path: rank for site in sites})
            found["kinds of linears", f"{name}, rank {rank}, every {every}"] = config
    space = named_space("blocks", shape, ranks=RANKS)
    for number, point in enumerate(space.spread(DRAWN, np.random.default_rng(0))):
        found["halves of layers", f"draw {number}"] = space.decode(space.at(point))
    return found


def compared(
    space: str, predictor: FittedPredictor, placements: Named, measured: Mapping[Configuration, Measurement]
) -> Iterator[dict[str, Any]]:
    """Predicted and measured overhead of each placement."""
    predicted = predictor.predict_configs(list(placements.values()))
    for number, ((group, name), config) in enumerate(placements.items()):
        found, interval = measured[config], predicted.interval(number)
        base = predictor.base_value
        yield {
            "space": space,
            "group": group,
            "name": name,
            "predicted": [each / base - 1 for each in (interval.middle, interval.lower, interval.upper)],
            "overhead": ends(found.overhead),
            "extrapolates": bool(predicted.extrapolates[number]),
        }


def means(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Mean error of each space over the placements of a group, and its difference to that of the first space."""

    def errors(space: str, group: str) -> list[float]:
        own = [row for row in rows if (row["space"], row["group"]) == (space, group)]
        return [100 * abs(row["predicted"][0] - row["overhead"][0]) for row in own]

    spaces, groups = (list(dict.fromkeys(row[key] for row in rows)) for key in ("space", "group"))
    for group in groups:
        for space in spaces:
            own = errors(space, group)
            apart = np.subtract(own, errors(spaces[0], group))
            yield {
                "group": group,
                "space": space,
                "placements": len(own),
                "points": mean_interval(own),
                "difference": mean_interval(apart) if space != spaces[0] else None,
            }


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    lower, middle, upper = row["points"]
    text = f"{row['group']:18} profiled in {row['space']:8} {middle:.2f} points [{lower:.2f}, {upper:.2f}]"
    if row["difference"] is None:
        return text
    lower, middle, upper = row["difference"]
    return f"{text}, to the first {middle:+.2f} [{lower:+.2f}, {upper:+.2f}]"


if __name__ == "__main__":
    main()
