"""How near estimated changes of the loss are to true ones, at a placement that uses a part of the overhead.

python benchmarks/search_estimates.py --folder FOLDER [--json] [--part 0.25] [--seeds 0 1 2] [--changes 16] [--bf16]

FOLDER is that of `benchmarks/search.py`, with a predictor and trainings. For each training, the placement is what
staged shrinking finds. From there, one group of linears after the other, as many as --changes, loses its adapter; and
as many that have none get the largest rank. The true change is that of the loss summed over the training examples whose
gradients the search takes, and over as many validation examples. Beside it stand estimates from the gradients at gates,
of which t is the sum for an example over what is added, or minus that over what is left out:

- *first order*: the sum of t over the examples;
- *second order*: the sum of t^2 / 2, which is that of the empirical Fisher matrix; what is added counts as minus that,
  as if it were left out again from where it belongs;
- *both*: their sum, with t^2 / 2 added either way, as the Taylor series has it.

`adaptare search` takes both for what is left out, and the first order for what is added. `order` is Spearman's
correlation of the estimates with the true changes, `error` the root of their mean squared difference in nats.
"""

import argparse
import json
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from stock_process import conditions, say

from adaptare.search import CompletionLoss
from adaptare.search.algorithms import staged
from adaptare.search.training import FisherChanges
from adaptare.search.training.loss_changes import gate_gradients, gate_sums
from search import GRADIENT_EXAMPLES, Judge, folder_options, judge_of, limit_at, predictor_of

WAYS: Final = ("left out", "added")
Values = NDArray[np.float64]


def main() -> None:
    found = folder_options(__doc__)
    found.add_argument("--part", type=float, default=0.25, help="of the largest overhead")
    found.add_argument("--changes", type=int, default=16, help="groups of linears, of each kind of change")
    options = found.parse_args()
    settings = {name: getattr(options, name) for name in ("part", "seeds", "changes", "bf16")}
    rows = [row for seed in options.seeds for row in of_training(options, seed)]
    print(json.dumps({**conditions(1), **settings, "rows": rows}) if options.json else "\n".join(map(line, rows)))


def of_training(options: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    """For each way and each estimate of one training, its agreement with the true changes."""
    run, fitted = options.folder / f"run-{seed}", predictor_of(options.folder / "predictor")
    judge = judge_of(fitted, run, bf16=options.bf16)
    space, examples = judge.super_adapter.space, judge.adaptation.examples
    train = examples.train[:GRADIENT_EXAMPLES]
    limit = limit_at(options.part, fitted, space)
    changes = FisherChanges(judge.super_adapter, space, train, judge.remembered)
    point = staged(space, changes, limit, [limit.bound])[0]
    gates = gate_gradients(judge.super_adapter, space.at(point), train)
    samples = {"train": train, "validation": examples.validation[: len(train)]}
    rng = np.random.default_rng(seed)
    for way in WAYS:
        groups = rng.permutation(np.flatnonzero((point > 0) == (way == "left out")))[: options.changes]
        wanted = np.zeros_like(groups) if way == "left out" else space.highest[groups]
        sums = np.array(
            [gate_sums(space.axes[axis], gates, point[axis])[:, to] for axis, to in zip(groups, wanted, strict=True)]
        )
        first, second = sums.sum(axis=1), (sums**2).sum(axis=1) / 2
        estimates = {
            "first order": first,
            "second order": second if way == "left out" else -second,
            "both": first + second,
        }
        true = {name: true_changes(judge, some, point, groups, wanted) for name, some in samples.items()}
        say(f"seed {seed}, {way}: mean change {true['train'].mean():.2f} nats")
        for estimate, values in estimates.items():
            yield {
                "seed": seed,
                "way": way,
                "estimate": estimate,
                "changes": len(groups),
                "examples": len(train),
                "mean": float(values.mean()),
                **{f"true_mean_{name}": float(own.mean()) for name, own in true.items()},
                **{f"order_{name}": float(spearmanr(values, own).statistic) for name, own in true.items()},
                **{f"error_{name}": float(np.sqrt(np.mean((values - own) ** 2))) for name, own in true.items()},
            }


def true_changes(judge: Judge, examples: Any, point: NDArray[np.int64], groups: Any, wanted: Any) -> Values:
    """Change of the summed loss by each group alone. Shape (n_groups,)."""
    loss = CompletionLoss(judge.super_adapter, examples, remembered=judge.remembered)
    points = np.repeat(point[None], 1 + len(groups), axis=0)
    points[1 + np.arange(len(groups)), groups] = wanted
    sums = loss.each(judge.super_adapter.space.at(points)).sum(axis=1)
    changes: Values = sums[1:] - sums[0]
    return changes


def line(row: dict[str, Any]) -> str:
    """For people."""
    order, error = ([row[f"{kind}_{sample}"] for sample in ("train", "validation")] for kind in ("order", "error"))
    return (
        f"seed {row['seed']}, {row['way']:9} {row['estimate']:13} order {order[0]:.2f} on training examples, "
        f"{order[1]:.2f} on others; error {error[0]:.1f} and {error[1]:.1f} nats"
    )


if __name__ == "__main__":
    main()
