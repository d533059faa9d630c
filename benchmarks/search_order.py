"""Whether a super-adapter ranks placements as adapters of these ranks that are trained alone.

python benchmarks/search_order.py --run FOLDER --predictor FILE [--json] [--parts 0.25 0.5] [--placements 12]
    [--seeds 0 1] [--steps 45] [--kept FILE]

FOLDER is that of a training, FILE a predictor of swappable adapters in decode (`benchmarks/search.py` leaves both). For
each part of the overhead of the largest adapter, placements that use this budget are drawn: choices by hand on every
k-th layer, the start of the search, a greedy choice, and random ones. Each has a test loss as a slice of the
super-adapter, and one for each seed as an adapter of exactly its ranks that is trained from scratch, alone, on the same
training examples, for as many steps. The base is beside them.

`tau` is Kendall's, between the losses of slices and of adapters trained alone; `survives` is the slope of the latter on
the former: how much of a difference between slices is left. Both have 95 % bootstrap intervals over test examples and
seeds. `alone_tau` is the same between the seeds of training alone, which no order can exceed by much. The gains are the
loss of the mean placement minus that of the one whose slice is best, as slices and alone.

Every training keeps its losses in a file (--kept), and the same command goes on with what is missing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from stock_process import conditions, say

from adaptare.profiler import Configuration, Space
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import CompletionLoss, Limit, PredictedUpperEnd, SuperAdapter, TrainingSettings
from adaptare.search import train_super_adapter as train
from adaptare.search.algorithms import portfolio, staged
from adaptare.search.training import FisherChanges
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from search import GRADIENT_EXAMPLES, by_hand, overhead, predictor_of

DRAWS = 2000
Losses = NDArray[np.float64]


def main() -> None:
    options = parser().parse_args()
    began = time.monotonic()
    file = options.kept or options.run / "alone.json"
    known: dict[str, list[float]] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}

    def remembered(key: str, make: Callable[[], Losses]) -> Losses:
        if key not in known:
            say(key)
            known[key] = make().tolist()
            file.write_text(json.dumps(known), encoding="utf-8")
        return np.array(known[key])

    adaptation, super_adapter = reload_adaptation(options.run)
    loss = CompletionLoss(super_adapter, adaptation.examples.test)
    space = super_adapter.space
    chosen = {part: placements(options, part, adaptation, super_adapter) for part in options.parts}
    slices = {
        part: {
            name: remembered(f"{part} {name}, slice", lambda config=config: loss.sums(space.encode(config)))
            for name, config in found.items()
        }
        for part, found in chosen.items()
    }
    base = remembered("base", lambda: loss.sums(space.encode(Configuration.of({}))))
    super_adapter.remove()
    alone = {
        part: {
            name: np.stack(
                [
                    remembered(
                        f"{part} {name}, alone, {options.steps} steps, seed {seed}",
                        lambda config=config, seed=seed: trained(
                            adaptation, super_adapter, config, options.steps, seed
                        ),
                    )
                    for seed in options.seeds
                ]
            )
            for name, config in found.items()
        }
        for part, found in chosen.items()
    }
    tokens = np.array(loss.tokens)
    result = {
        **conditions(1),
        **{name: getattr(options, name) for name in ("parts", "seeds", "steps")},
        "model": adaptation.task.model_name,
        "test_examples": len(tokens),
        "train_examples": len(adaptation.examples.train),
        "base": float(base.sum() / tokens.sum()),
        "rows": [
            row for part in options.parts for row in rows_of(part, chosen[part], slices[part], alone[part], tokens)
        ],
        "orders": [order_of(part, slices[part], alone[part], tokens) for part in options.parts],
        "elapsed_s": time.monotonic() - began,
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--run", type=Path, required=True)
    found.add_argument("--predictor", type=Path, required=True)
    found.add_argument("--kept", type=Path, help="file of losses; default: FOLDER/alone.json")
    found.add_argument("--parts", type=float, nargs="+", default=[0.25, 0.5])
    found.add_argument("--placements", type=int, default=12)
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    found.add_argument("--steps", type=int, default=45)
    return found


def placements(
    options: argparse.Namespace, part: float, adaptation: Adaptation, super_adapter: SuperAdapter
) -> dict[str, Configuration]:
    """Different placements that are predicted to use a part of the largest overhead, and no more."""
    space, predictor = super_adapter.space, predictor_of(options.predictor)
    bound = (1 + overhead(predictor, options.run, part)) * predictor.base_value
    limit = Limit(PredictedUpperEnd(predictor, space.dimensions), bound)
    found = dict(by_hand(space, limit))
    changes = FisherChanges(super_adapter, space, adaptation.examples.train[:GRADIENT_EXAMPLES])
    (incumbent,) = staged(space, changes, limit, [bound])
    starts = portfolio(space, limit, incumbent, changes=changes(space.highest), most=options.placements, seed=0)
    for name, point in starts.items():
        config = space.decode(space.at(point))
        if len(found) < options.placements and config not in found.values():
            found[name] = config
    return found


def trained(
    adaptation: Adaptation, super_adapter: SuperAdapter, config: Configuration, steps: int, seed: int
) -> Losses:
    """Sums of nats of the test examples, of an adapter that was trained alone from scratch."""
    only = SuperAdapter(
        adaptation.model, alone_space(super_adapter.space, config), alpha=super_adapter.alpha, seed=seed
    )
    with tempfile.TemporaryDirectory() as folder:
        train(only, adaptation.examples.train, TrainingSettings(steps, seed), folder=folder)
    found = CompletionLoss(only, adaptation.examples.test).sums(only.largest)
    only.remove()
    return found


def alone_space(space: Space, config: Configuration) -> Space:
    """The space of one configuration."""
    return rank_space("one", space.shape, [[path] for path, _ in config.ranks], [[rank] for _, rank in config.ranks])


def rows_of(
    part: float,
    chosen: Mapping[str, Configuration],
    slices: Mapping[str, Losses],
    alone: Mapping[str, Losses],
    tokens: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Losses of each placement, nats per token."""
    return [
        {
            "part": part,
            "name": name,
            "linears": len(chosen[name].ranks),
            "slice": float(slices[name].sum() / tokens.sum()),
            "alone": [float(sums.sum() / tokens.sum()) for sums in alone[name]],
        }
        for name in chosen
    ]


def order_of(
    part: float, slices: Mapping[str, Losses], alone: Mapping[str, Losses], tokens: NDArray[np.int64]
) -> dict[str, Any]:
    """Agreement of the two orders at one part of the overhead."""
    nested = np.stack(list(slices.values()))  # shape (n_placements, n_examples)
    own = np.stack(list(alone.values()))  # shape (n_placements, n_seeds, n_examples)
    rng = np.random.default_rng(0)
    draws = [agreement(nested, own, tokens)]
    for _ in range(DRAWS):
        examples = rng.integers(len(tokens), size=len(tokens))
        seeds = rng.integers(own.shape[1], size=own.shape[1])
        draws.append(agreement(nested[:, examples], own[:, seeds][..., examples], tokens[examples]))
    named = {
        name: interval([draw[number] for draw in draws])
        for number, name in enumerate(("tau", "survives", "gain_of_slices", "gain_alone"))
    }
    every = own.sum(axis=2) / tokens.sum()
    pairs = [(a, b) for a in range(every.shape[1]) for b in range(a)]
    taus = [float(stats.kendalltau(every[:, a], every[:, b]).statistic) for a, b in pairs]
    return {"part": part, "placements": len(nested), **named, "alone_tau": float(np.mean(taus)) if taus else None}


def agreement(nested: Losses, own: Losses, tokens: NDArray[np.int64]) -> tuple[float, float, float, float]:
    """Kendall's tau, slope, and what the best slice gains over the mean placement: as slices and alone."""
    by_slice, by_alone = nested.sum(axis=1) / tokens.sum(), own.sum(axis=2).mean(axis=1) / tokens.sum()
    best = int(np.argmin(by_slice))
    tau = float(stats.kendalltau(by_slice, by_alone).statistic)
    slope = float(stats.linregress(by_slice, by_alone).slope)
    return tau, slope, float(by_slice.mean() - by_slice[best]), float(by_alone.mean() - by_alone[best])


def interval(draws: Sequence[float]) -> list[float]:
    """Ends of the 95 % bootstrap interval around the first value."""
    lower, upper = np.quantile(draws[1:], (0.025, 0.975))
    return [float(lower), draws[0], float(upper)]


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    found = [f"{result['model']}, {result['test_examples']} test examples, base {result['base']:.3f}"]
    found += [
        f"  {row['part']:.0%} {row['name']:28} {row['linears']:3} linears  slice {row['slice']:.3f}  alone "
        + " ".join(f"{each:.3f}" for each in row["alone"])
        for row in result["rows"]
    ]
    for order in result["orders"]:
        values = "  ".join(
            f"{name} {order[name][1]:.2f} [{order[name][0]:.2f}, {order[name][2]:.2f}]"
            for name in ("tau", "survives", "gain_of_slices", "gain_alone")
        )
        found.append(f"  {order['part']:.0%}: {values}  alone_tau {order['alone_tau']}")
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


if __name__ == "__main__":
    main()
