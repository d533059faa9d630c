"""Regret of search algorithms on losses whose optimum is known.

python benchmarks/search_regret.py [--json] [--seeds 20] [--spaces large small]

The loss is simulated. Every site lowers it by a gain of its own (lognormal, sigma 1) times 1 - exp(-rank / 4), so that
further ranks gain less and less; the sum of all gains passes through a saturating function, so that what a site gains
depends on all others, and the best configuration does not. The cost is affine: seconds for each site with an adapter,
and for each of its ranks, different ones by site. The optimum under a budget is that of a multiple-choice knapsack, by
dynamic programming over whole microseconds.

- `large`: 210 sites with ranks 0, 2, 4, 8, 16, at half and at a quarter of the full overhead.
- `small`: seven sites with ranks 0, 4, 16: 2,187 configurations, which a test enumerates.

An evaluation has an error of .03 nats (standard deviation, over all examples), as measured on 24 examples of dialogues;
configurations at the budget differ by about .07. Estimated gains are wrong by a factor of e^-0.5 to e^0.5, another one
for every choice and configuration at which they are estimated (`e^±0.5`).

Regret is the true loss of the chosen configuration minus that of the optimum, in nats; the mean over seeds, with its
standard error. `staged` shrinks in eight stages and fills, without any evaluation; `staged, raced` is the default of
`adaptare search` without sets of kinds of linears, as simulated gains are drawn by site: eight starts at most.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.profiler import ModelShape, Space, named_space
from adaptare.search import Algorithm, Limit, Nsga2, RandomSearch, search
from adaptare.search.algorithms import by_estimate, portfolio, staged
from adaptare.search.training import decide, race
from adaptare.search.training.quality import PairedLosses

RANKS = {"large": (0, 2, 4, 8, 16), "small": (0, 4, 16)}
NOISE = 0.03
EXAMPLES = 96
EVALUATIONS = (0, 40, 120, 400)
BASE_US = 10_000
# Nats between the base and the largest configuration, and share of it that all gains together saturate.
RANGE = 1.6
SPREAD = 0.5
SHARES = {"large": (0.5, 0.25), "small": (0.5, 0.25)}


def shape(layers: int) -> ModelShape:
    """A decoder of seven linears in each layer."""
    return ModelShape("llama", layers, 576, 9, 3, 64, 1536, 49152, "{}")


def space_of(name: str) -> Space:
    """210 sites, or the seven of one layer."""
    return named_space("sites", shape(30 if name == "large" else 1), ranks=RANKS[name])


class Simulated:
    """Loss and cost of the configurations of a space.

    Args:
        space: Space whose axes are single sites.
        share: Budget, as a share of the full overhead.
        seed: Seed of gains, costs and errors.
    """

    def __init__(self, space: Space, share: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.space, self.seed, n = space, seed, space.n_axes
        self.ranks = np.array(space.axes[0].choices)
        gains = rng.lognormal(size=(n, 1)) * (1 - np.exp(-self.ranks / 4))
        self.gains = gains / gains[:, -1].sum()
        site, rank = rng.integers(8, 17, size=(n, 1)), rng.uniform(0.3, 0.9, size=(n, 1))
        self.costs_us = np.where(self.ranks > 0, site + np.rint(rank * self.ranks), 0).astype(np.int64)
        self.spare_us = int(share * self.costs_us[:, -1].sum())
        self.limit = Limit(Cost(self), 1e-6 * (BASE_US + self.spare_us + 0.5))
        self.columns = np.arange(n)

    def points(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Inverse of `Space.at`."""
        return np.searchsorted(self.ranks, codes)

    def loss_of(self, total: NDArray[np.float64]) -> NDArray[np.float64]:
        """Loss at a sum of gains between 0 and 1."""
        return RANGE * (1 - (1 - np.exp(-total / SPREAD)) / (1 - np.exp(-1 / SPREAD)))

    def loss(self, points: NDArray[np.int64]) -> NDArray[np.float64]:
        """True loss, shape (n, n_axes) -> (n,)."""
        return self.loss_of(self.gains[self.columns, points].sum(axis=-1))

    def best(self) -> float:
        """Loss of the optimum, by dynamic programming over microseconds."""
        best = np.zeros(self.spare_us + 1)
        for gains, costs in zip(self.gains, self.costs_us, strict=True):
            options = [
                np.concatenate([np.full(cost, -np.inf), best])[: len(best)] + gain
                for gain, cost in zip(gains, costs, strict=True)
            ]
            best = np.max(options, axis=0)
        return float(self.loss_of(best.max()))

    def changes(self, point: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Estimated changes of the loss, wrong by factors."""
        total = self.gains[self.columns, point].sum()
        others = total - self.gains[self.columns, point][:, None] + self.gains
        factors = np.random.default_rng([self.seed, 1, *point.tolist()]).uniform(-0.5, 0.5, size=self.gains.shape)
        return (self.loss_of(others) - self.loss_of(total)) * np.exp(factors)


@dataclass(frozen=True)
class Cost:
    """Affine cost in seconds."""

    simulated: Simulated
    name: str = "cost_s"

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,)."""
        points = self.simulated.points(codes)
        return 1e-6 * (BASE_US + self.simulated.costs_us[self.simulated.columns, points].sum(axis=1))


class Noisy(PairedLosses):
    """Loss with the errors of examples: an objective, and the loss of a race."""

    name = "loss_nats"

    def __init__(self, simulated: Simulated) -> None:
        self.simulated = simulated
        self.tokens = np.ones(EXAMPLES, dtype=np.int64)

    def sums(self, codes: NDArray[np.int64], examples: NDArray[np.int64] | None = None, /) -> NDArray[np.float64]:
        """Losses of one configuration on some examples."""
        errors = np.random.default_rng([self.simulated.seed, 2, *codes.tolist()]).normal(size=EXAMPLES)
        losses = self.simulated.loss(self.simulated.points(codes)) + NOISE * np.sqrt(EXAMPLES) * errors
        return losses if examples is None else losses[examples]

    def samples(self) -> list[NDArray[np.int64]]:
        """Eighths."""
        return [np.arange(0, EXAMPLES, stride) for stride in (8, 4, 2, 1)]

    def __call__(self, codes: NDArray[np.int64], /) -> NDArray[np.float64]:
        """Shape (n, n_columns) -> (n,)."""
        return np.array([self.sums(row).mean() for row in codes])


def by_evaluations(simulated: Simulated, algorithm: Algorithm, *, cost: bool) -> list[float]:
    """True loss of the lowest evaluated one after each number of evaluations; NaN before any."""
    noisy, space = Noisy(simulated), simulated.space
    objectives = [noisy, simulated.limit.cost] if cost else [noisy]
    front = search(
        *(algorithm, space, objectives, [simulated.limit]),
        evaluations=max(EVALUATIONS),
        seed=simulated.seed,
    )
    values = np.array([one.values[0] for one in front.history])
    chosen = [front.history[int(np.argmin(values[:n]))].configuration if n else None for n in EVALUATIONS]
    codes = [None if one is None else space.encode(one) for one in chosen]
    return [np.nan if row is None else float(simulated.loss(simulated.points(row))) for row in codes]


def losses(simulated: Simulated) -> dict[str, list[float]]:
    """True loss of what each algorithm chooses, by number of evaluations."""
    space, limit, seed = simulated.space, simulated.limit, simulated.seed
    table = simulated.changes(space.highest)
    greedy = by_estimate(space, table, limit)
    (shrunk,) = staged(space, simulated.changes, limit, [limit.bound])
    starts = portfolio(space, limit, shrunk, changes=table, most=8, seed=seed)
    codes, noisy = space.at(np.array(list(starts.values()))), Noisy(simulated)
    others = [row for row in race(noisy, codes).left if row]
    row = decide(noisy, codes[0], codes[others])
    raced = codes[0] if row is None else codes[others[row]]
    alone, at_last = float(simulated.loss(shrunk)), float(simulated.loss(simulated.points(raced)))
    return {
        "random": by_evaluations(simulated, RandomSearch(space, seed=seed), cost=False),
        "NSGA-II": by_evaluations(simulated, Nsga2(space, seed=seed), cost=True),
        "greedy, gains within e^±0.5": [float(simulated.loss(greedy))] * len(EVALUATIONS),
        "staged": [alone] * len(EVALUATIONS),
        "staged, raced": [alone, *[at_last] * (len(EVALUATIONS) - 1)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--spaces", nargs="+", choices=SHARES, default=list(SHARES))
    options = parser.parse_args()
    began, rows = time.monotonic(), []
    for name in options.spaces:
        for share in SHARES[name]:
            runs = [Simulated(space_of(name), share, seed) for seed in range(options.seeds)]
            rows += table_of(name, share, [(simulated, losses(simulated)) for simulated in runs])
    result = {"seeds": options.seeds, "noise": NOISE, "evaluations": EVALUATIONS, "rows": rows}
    result["elapsed_s"] = time.monotonic() - began
    print(json.dumps(result) if options.json else "\n".join(map(line, rows)))


def table_of(name: str, share: float, runs: list[tuple[Simulated, dict[str, list[float]]]]) -> list[dict[str, Any]]:
    """One row for each algorithm: mean regret and its standard error at each number of evaluations."""
    best = np.array([simulated.best() for simulated, _ in runs])
    rows = []
    for algorithm in runs[0][1]:
        regret = np.array([found[algorithm] for _, found in runs]) - best[:, None]
        mean, error = regret.mean(axis=0), regret.std(axis=0, ddof=1) / np.sqrt(len(runs))
        known = [None if np.isnan(value) else float(value) for value in mean]
        errors = [None if np.isnan(value) else float(value) for value in error]
        rows.append({"space": name, "share": share, "algorithm": algorithm, "regret": known, "error": errors})
    return rows


def line(row: dict[str, Any]) -> str:
    """For people."""
    shown = [
        "      -      " if r is None else f"{r:.4f} ±{e:.4f}" for r, e in zip(row["regret"], row["error"], strict=True)
    ]
    return f"{row['space']:6} {row['share']:4} {row['algorithm']:28} {'  '.join(shown)}"


if __name__ == "__main__":
    main()
