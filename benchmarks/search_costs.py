"""Costs that a search can minimise, compared at equal measured overhead.

python benchmarks/search_costs.py --folder FOLDER [--json] [--parts 0.1 0.175 0.25 0.375 0.5 0.625 0.75]
    [--seeds 0 1 2] [--seconds 150] [--half-width 0.005] [--bf16]

FOLDER is that of `search.py`, whose trainings and predictor are taken. For each training, staged shrinking by the
predicted latency finds a placement at each part of the overhead of the largest rank everywhere. Beside them stand
placements that it finds by the number of parameters, and by the number of adapted linears, with the largest limit on
that number at which the predicted latency is within the same part. In decode, an adapter multiplies once for each
parameter, so FLOPs are the same cost as parameters.

All placements are measured in one session, interleaved with the base. Measurements in `FOLDER/latency.db` are not taken
again. A placement of another cost is compared at its own measured overhead: with the losses of the placements found by
predicted latency, and of the largest rank everywhere, interpolated linearly between their measured overheads. Outside
of these there is no comparison. Losses are nats per completion token of the test examples, of slices of the
super-adapter. Differences are means over trainings, with 95 % intervals: of Student's t over them, and of the overheads
that trainings share, which were measured once.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recipe_latency import ends
from search_latency import measurements
from stock_process import conditions, mean_interval, say

from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Measurement
from adaptare.search.algorithms import staged
from adaptare.search.training import FisherChanges
from search import GRADIENT_EXAMPLES, folder_options, judge_of, limit_at, predictor_of, proxies, within

LATENCY, LARGEST = "predicted latency", "largest rank everywhere"
PARTS = (0.1, 0.175, 0.25, 0.375, 0.5, 0.625, 0.75)
Row = dict[str, Any]
# Middle, lower and upper end of a measured overhead.
Overhead = tuple[float, float, float]


@dataclass(frozen=True)
class Difference:
    """Difference of a placement's loss to a curve of others, at its own measured overhead.

    Args:
        nats: Loss of the placement minus that of the curve.
        slopes: Change of `nats` for each measured overhead that it depends on, by that overhead.
    """

    nats: float
    slopes: Mapping[Overhead, float]


def main() -> None:
    parser = folder_options(__doc__, PARTS)
    parser.add_argument("--seconds", type=float, default=150.0, help="of measuring, for each group")
    parser.add_argument("--half-width", type=float, default=0.005, help="of every 95 %% interval, relative")
    options = parser.parse_args()
    options.parts.sort(reverse=True)
    fitted = predictor_of(options.folder / "predictor")
    found = [(row, config) for seed in options.seeds for row, config in placements(options, fitted, seed)]
    measured = measurements(options, fitted, list(dict.fromkeys(config for _, config in found)))
    rows = [row | measured_overhead(measured[config]) for row, config in found]
    settings = {name: getattr(options, name) for name in ("parts", "seeds", "bf16", "half_width")}
    result = {**conditions(1), "device": fitted.device.device, **settings, "rows": rows, "summary": summary(rows)}
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def placements(options: argparse.Namespace, fitted: FittedPredictor, seed: int) -> Iterator[tuple[Row, Configuration]]:
    """What each cost finds in one training, with its loss; the largest rank everywhere last."""
    say(f"placements of seed {seed}")
    judge = judge_of(fitted, options.folder / f"run-{seed}", bf16=options.bf16)
    space, examples = judge.super_adapter.space, judge.adaptation.examples
    changes = FisherChanges(judge.super_adapter, space, examples.train[:GRADIENT_EXAMPLES], judge.remembered)
    limits = [limit_at(part, fitted, space) for part in options.parts]
    found = {LATENCY: staged(space, changes, limits[0], [limit.bound for limit in limits])}
    found |= {proxy.name: within(space, changes, proxy, limits) for proxy in proxies(space)}
    points = [
        (cost, part, point) for cost, own in found.items() for part, point in zip(options.parts, own, strict=False)
    ]
    for cost, part, point in [*points, (LARGEST, 1.0, space.highest)]:
        if point is not None:
            codes = space.at(point)
            row = {"seed": seed, "cost": cost, "part": part, "linears": int((codes > 0).sum())}
            yield row | {"loss": float(judge.loss(codes[None])[0])}, space.decode(codes)


def measured_overhead(measurement: Measurement) -> Row:
    """Overhead over the interleaved base, or the reason why there is none."""
    if measurement.failure:
        return {"failure": measurement.failure}
    return {"overhead": ends(measurement.ratio.over_one)}


def summary(rows: Sequence[Mapping[str, Any]], *, curve: str = LATENCY) -> list[Row]:
    """Difference of other costs to one of them, predicted latency, for each part and over all parts."""
    found = []
    others = [row for row in rows if row["cost"] not in (curve, LARGEST)]
    compared = [(row, beside(row, rows, curve=curve)) for row in others]
    for cost in dict.fromkeys(row["cost"] for row in others):
        own = [(row, difference) for row, difference in compared if row["cost"] == cost]
        for part in [None, *dict.fromkeys(row["part"] for row, _ in own)]:
            of_part = [each for each in own if part in (None, each[0]["part"])]
            found.append({"cost": cost, "part": part, **over_trainings(of_part)})
    return found


def over_trainings(rows: Sequence[tuple[Mapping[str, Any], Difference | None]]) -> Row:
    """Mean difference of each training, and their mean with its interval."""
    by_seed: dict[int, list[Difference]] = {}
    for row, difference in rows:
        if difference:
            by_seed.setdefault(row["seed"], []).append(difference)
    means = [float(np.mean([each.nats for each in own])) for own in by_seed.values()]
    return {
        "placements": len(rows),
        "compared": sum(map(len, by_seed.values())),
        "by_training": means,
        "difference": with_shared_errors(means, list(by_seed.values())) if len(means) > 1 else None,
    }


def with_shared_errors(
    means: Sequence[float], by_training: Sequence[Sequence[Difference]]
) -> tuple[float, float, float]:
    """Lower end, middle and upper end of the mean over trainings.

    Errors of overheads that one training alone has are in the spread of the trainings. An overhead that several
    trainings share (the same three numbers) was measured once, and its error moves all of them together, which the
    spread does not show; the mean covariance of two trainings is added to the variance of the mean.
    """
    _, middle, upper = mean_interval(means)
    slopes: dict[Overhead, NDArray[np.float64]] = {}
    for number, own in enumerate(by_training):
        for each in own:
            for overhead, slope in each.slopes.items():
                slopes.setdefault(overhead, np.zeros(len(means)))[number] += slope / len(own)
    shared = 0.0
    for (_, below, above), of_means in slopes.items():
        errors = of_means * (above - below) / 2
        shared += (errors.sum() ** 2 - (errors**2).sum()) / (len(means) * (len(means) - 1))
    half = float(np.hypot(upper - middle, np.sqrt(max(shared, 0.0))))
    return middle - half, middle, middle + half


def beside(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], *, curve: str = LATENCY) -> Difference | None:
    """Loss of a placement minus that of those by one cost, in the same training, at its own measured overhead."""
    points = sorted(
        (*each["overhead"], each["loss"])
        for each in rows
        if each["cost"] in (curve, LARGEST) and each["seed"] == row["seed"] and "overhead" in each
    )
    if "overhead" not in row or not points or not points[0][0] <= row["overhead"][0] <= points[-1][0]:
        return None
    at = row["overhead"][0]
    overheads, losses = [each[0] for each in points], [each[-1] for each in points]
    difference = float(row["loss"] - np.interp(at, overheads, losses))
    right = int(np.searchsorted(overheads, at))
    if not right:
        return Difference(difference, {})
    left, width = right - 1, overheads[right] - overheads[right - 1]
    slope, share = (losses[right] - losses[left]) / width, (at - overheads[left]) / width
    slopes: dict[Overhead, float] = {points[left][:3]: slope * (1 - share), points[right][:3]: slope * share}
    own = tuple(row["overhead"])
    return Difference(difference, slopes | {own: slopes.get(own, 0.0) - slope})


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    for row in result["rows"]:
        middle, lower, upper = row.get("overhead", [np.nan] * 3)
        yield (
            f"seed {row['seed']}, {row['part']:.1%} {row['cost']:28} {row['linears']:3} linears  "
            f"loss {row['loss']:.3f}  {middle:+.1%} [{lower:+.1%}, {upper:+.1%}]"
        )
    for row in result["summary"]:
        lower, middle, upper = row["difference"] or [np.nan] * 3
        part = "all parts" if row["part"] is None else f"{row['part']:.1%}"
        compared = f"{row['compared']} of {row['placements']} compared"
        yield f"{row['cost']:28} {part:9} {middle:+.3f} [{lower:+.3f}, {upper:+.3f}]  {compared}"


if __name__ == "__main__":
    main()
