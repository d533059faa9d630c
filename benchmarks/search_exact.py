"""Steps of staged shrinking beside the exact optimum of the same estimates, a mixed-integer linear program.

python benchmarks/search_exact.py --folder FOLDER [--json] [--parts 0.25 0.5 0.75] [--seeds 0 1 2] [--bf16]

FOLDER is that of `search.py`, whose predictor, trainings and limits are taken. Estimates are changes of the loss by
each choice alone, all others as they are. The exact optimum is of their sum, within a bound on the sum of the costs of
each choice alone, by SciPy's HiGHS. Of the bounds that are tried, by bisection, it is the largest whose optimum keeps
to the limit on predicted latency. Estimates are taken

- *at the largest*, where both ways start; steps lower the rank of every group of linears by least loss per saved
  latency, and fill it again; or
- *at what was found* by staged shrinking, which recomputes estimates at each stage; steps stay there.

`estimated` and `true` are changes from there, summed over the examples whose gradients the estimates are of, in nats:
where they differ, estimates do not add up. `difference` is the loss of the exact optimum minus that of the steps, on
the test examples, in nats per token, with its paired 95 % interval; over trainings, a mean with one of Student's t.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from stock_process import conditions, mean_interval, say

from adaptare.profiler import Space
from adaptare.search import CompletionLoss, Limit
from adaptare.search.algorithms import filled, lowered, staged
from adaptare.search.training import FisherChanges
from search import GRADIENT_EXAMPLES, PARTS, Points, folder_options, judge_of, limit_at, predictor_of

HALVINGS = 12
GAP = 1e-6  # relative, of the optimum that HiGHS proves
ESTIMATES = ("at the largest", "at what was found")
NONE_FITS = "no adapter is within the limit; name a larger part in --parts"


def main() -> None:
    options = folder_options(__doc__, PARTS).parse_args()
    rows = [row for seed in options.seeds for row in of_training(options, seed)]
    settings = {name: getattr(options, name) for name in ("parts", "seeds", "bf16")}
    result = {**conditions(1), "scipy": scipy.__version__, **settings, "rows": rows, "summary": list(summary(rows))}
    print(json.dumps(result) if options.json else "\n".join(map(line, result["summary"])))


def of_training(options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """Both ways of one training, for each part of the overhead and each table of estimates."""
    fitted = predictor_of(options.folder / "predictor")
    judge = judge_of(fitted, options.folder / f"run-{seed}", bf16=options.bf16)
    space, train = judge.super_adapter.space, judge.adaptation.examples.train[:GRADIENT_EXAMPLES]
    changes = FisherChanges(judge.super_adapter, space, train, judge.remembered)
    train_loss = CompletionLoss(judge.super_adapter, train, remembered=judge.remembered)
    for part in options.parts:
        say(f"seed {seed}, {part:.0%}")
        limit = limit_at(part, fitted, space)
        found = next(iter(staged(space, changes, limit, [limit.bound])), None)
        if found is None:
            raise SystemExit(NONE_FITS)
        for name, start in zip(ESTIMATES, (space.highest, found), strict=True):
            table = changes(start)
            steps = found if start is found else by_steps(space, table, limit)
            points = {"steps": steps, "exact": exact(space, start, table, limit)}
            codes = {way: space.at(point) for way, point in points.items()}
            sums = train_loss.each(np.array([space.at(start), *codes.values()])).sum(axis=1)
            difference = judge.loss.difference(codes["exact"], codes["steps"])
            yield {
                "seed": seed,
                "part": part,
                "estimates": name,
                "changed": int((points["exact"] != points["steps"]).sum()),
                "estimated": {way: estimated(table, point) for way, point in points.items()},
                "true": dict(zip(points, (sums[1:] - sums[0]).tolist(), strict=True)),
                "difference": [difference.lower, difference.middle, difference.upper],
            }


def by_steps(space: Space, table: NDArray[np.float64], limit: Limit) -> Points:
    """Lowered from the largest and filled, by one table."""
    point = lowered(space, space.highest, table, limit, limit.bound)
    if point is None:
        raise SystemExit(NONE_FITS)
    return filled(space, point, table, limit, limit.bound)


def estimated(table: NDArray[np.float64], point: Points) -> float:
    """Sum of the changes of all choices; groups without an estimate stay as they are."""
    return float(np.nansum(table[np.arange(len(point)), point]))


def exact(space: Space, start: Points, table: NDArray[np.float64], limit: Limit) -> Points:
    """The point with the least sum of changes, within a bound on the sum of costs that keeps it within the limit.

    Args:
        space: Search space.
        start: The point of the estimates, shape (n_axes,).
        table: Changes of the loss, shape (n_axes, largest number of choices); NaN for choices that cannot be taken.
        limit: The limited cost; that of a choice alone is taken as its share of the sum.
    """
    axes, choices = np.nonzero(np.isfinite(table))
    rows = np.repeat(start[None], len(axes), axis=0)
    rows[np.arange(len(axes)), axes] = choices
    here = float(limit.cost(space.at(start)[None])[0])
    costs = limit.cost(space.at(rows)) - here
    one_each = LinearConstraint((axes == np.unique(axes)[:, None]).astype(float), 1, 1)

    def optimum(bound: float) -> Points | None:
        """None if no sum of costs is that low."""
        within = LinearConstraint(costs[None] / np.abs(costs).max(), -np.inf, bound / np.abs(costs).max())
        with to_stderr():
            found = milp(
                table[axes, choices],
                constraints=[one_each, within],
                integrality=np.ones(len(axes)),
                bounds=Bounds(0, 1),
                options={"mip_rel_gap": GAP},
            )
        if found.x is None:
            return None
        point, taken = start.copy(), found.x > 0.5
        point[axes[taken]] = choices[taken]
        return point

    best, bound = None, limit.bound - here
    width = float(costs.max() - costs.min()) * len(np.unique(axes)) / 4
    low, high = bound - width, bound + width
    for _ in range(HALVINGS):
        point = optimum(bound)
        if point is None:
            low = bound
        elif limit.cost(space.at(point)[None])[0] > limit.bound:
            high = bound
        else:
            low, best = bound, point
        bound = (low + high) / 2
    if best is None:
        raise SystemExit(NONE_FITS)
    return best


@contextmanager
def to_stderr() -> Iterator[None]:
    """Sends to stderr what HiGHS prints to stdout."""
    sys.stdout.flush()
    before = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(before, 1)
        os.close(before)


def summary(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Means over trainings, for each table of estimates and each part."""
    for name, part in dict.fromkeys((row["estimates"], row["part"]) for row in rows):
        own = [row for row in rows if (row["estimates"], row["part"]) == (name, part)]
        yield {
            "estimates": name,
            "part": part,
            "changed": float(np.mean([row["changed"] for row in own])),
            **{
                f"{key}_{way}": float(np.mean([row[key][way] for row in own]))
                for key in ("estimated", "true")
                for way in own[0][key]
            },
            "difference": mean_interval([row["difference"][1] for row in own])
            if len(own) > 1
            else own[0]["difference"],
        }


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    lower, middle, upper = row["difference"]
    ways = "; ".join(
        f"{way} {row[f'estimated_{way}']:+.1f}, true {row[f'true_{way}']:+.1f}" for way in ("steps", "exact")
    )
    return (
        f"{row['estimates']:18} {row['part']:.0%}  {row['changed']:4.1f} groups differ  estimated: {ways} nats;  "
        f"exact minus steps {middle:+.3f} [{lower:+.3f}, {upper:+.3f}] nats per token"
    )


if __name__ == "__main__":
    main()
