"""Whether a super-adapter ranks placements as adapters of these ranks that are trained alone.

python benchmarks/search_order.py --run FOLDER --predictor FILE [--json] [--parts 0.25 0.5] [--placements 12]
    [--seeds 0 1] [--steps 45] [--bf16] [--rules RULE ...] [--kept FILE]

FOLDER is that of a training, FILE a predictor of swappable adapters in decode (`benchmarks/search.py` leaves both). For
each part of the overhead of the largest adapter, placements that use this budget are drawn: choices by hand on every
k-th layer, what staged shrinking finds, other starts of the race, and random ones. Each has a test loss as a slice of
the super-adapter, and one for each seed as an adapter of exactly its ranks that is trained from scratch, alone, on the
same training examples, for as many steps. The base is beside them.

Super-adapters of further rules are trained once, for as many passes as --steps, and have losses of the same placements:
those of `benchmarks/samplers.py`, of which `budget` draws around each part; `spread:2` has twice the passes. Some
placements are chosen by gradients of the super-adapter in FOLDER, which favours its rule.

`tau` is Kendall's, between the losses of slices and of adapters trained alone; `survives` is the slope of the latter on
the former: how much of a difference between slices is left. The gains are the loss of the mean placement minus that of
the one whose slice is best, as slices and alone; `worst_alone_gains` is the loss of the best slice minus that of the
worst placement trained alone, and `mean_slice` the mean loss of the slices. All have 95 % bootstrap intervals over test
examples and seeds of training alone, as has the difference of each to the first super-adapter. What another training of
a super-adapter would change is not in them. `alone_tau` is tau between the seeds of training alone, which no order can
exceed by much.

Every training keeps its losses in a file (--kept), and the same command goes on with what is missing.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from samplers import RULES
from scipy import stats
from stock_process import conditions, say

from adaptare.core.content_hash import Json
from adaptare.profiler import Configuration, Space
from adaptare.profiler.analysis import Interval
from adaptare.profiler.workloads.space_file import rank_space
from adaptare.search import CompletionLoss, Limit, SuperAdapter, TrainingSettings
from adaptare.search import train_super_adapter as train
from adaptare.search.algorithms import STAGED, portfolio, smallest_that_fits, staged
from adaptare.search.super_adapter import hash_of_weights
from adaptare.search.training import FisherChanges
from adaptare.search.training.quality import paired_difference
from adaptare.search.training.remembered import Remembered
from adaptare.search.training.step import DEFAULT_STEP, BudgetSampler, TrainingStep
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from search import GRADIENT_EXAMPLES, by_hand, limit_at, predictor_of

DRAWS = 2000
AS_TRAINED = "as trained"
MEASURES = ("tau", "survives", "gain_of_slices", "gain_alone", "worst_alone_gains", "mean_slice")
Losses = NDArray[np.float64]


@dataclass(frozen=True)
class Rule:
    """Trains another super-adapter.

    Args:
        name: As it was typed.
        step: Configurations of each optimiser step.
        steps: Optimiser steps.
    """

    name: str
    step: TrainingStep
    steps: int


def main() -> None:
    options = parser().parse_args()
    began = time.monotonic()
    known = Remembered(options.kept or options.run / "alone.jsonl", of=hash_of_weights(options.run))
    adaptation, super_adapter = reload_adaptation(options.run)
    loss = CompletionLoss(super_adapter, adaptation.examples.test)
    space = super_adapter.space
    limits = {part: limit_of(options, space, part) for part in options.parts}
    chosen = {part: placements(options, limits[part], adaptation, super_adapter) for part in options.parts}
    slices = {part: {AS_TRAINED: judged(known, [AS_TRAINED], space, chosen[part], lambda: loss)} for part in chosen}
    (base,) = judged(known, [], space, {"base": Configuration.of({})}, lambda: loss).values()
    super_adapter.remove()
    for rule, parts in rules_of(options, space, limits):
        found = by_rule(options, known, rule, {part: chosen[part] for part in parts}, adaptation, super_adapter)
        for part, own in found.items():
            slices[part][rule.name] = own
    alone = {
        part: {
            name: np.stack(
                [
                    known(
                        ["alone", dict(config.ranks), options.steps, seed, options.bf16],
                        partial(alone_of, options, adaptation, super_adapter, config, seed),
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
        **conditions(torch.get_num_threads()),
        **{name: getattr(options, name) for name in ("parts", "seeds", "steps", "bf16")},
        "model": adaptation.task.model_name,
        "test_examples": len(tokens),
        "train_examples": len(adaptation.examples.train),
        "base": float(base.sum() / tokens.sum()),
        "rows": [row for part in chosen for row in rows_of(part, chosen[part], slices[part], alone[part], tokens)],
        "orders": [order for part in chosen for order in orders_of(part, slices[part], alone[part], tokens)],
        "elapsed_s": time.monotonic() - began,
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = parser_of_trainings(__doc__, parts=[0.25, 0.5], seeds=[0, 1], steps=45, rules=[])
    found.add_argument("--placements", type=int, default=12, help="at most")
    return found


def parser_of_trainings(description: str | None, **defaults: object) -> argparse.ArgumentParser:
    """Options of scripts that train super-adapters of several rules for the task of a folder."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--run", type=Path, required=True)
    found.add_argument("--predictor", type=Path, required=True)
    found.add_argument("--kept", type=Path, help="file of losses; default: in FOLDER")
    found.add_argument("--parts", type=float, nargs="+")
    found.add_argument("--seeds", type=int, nargs="+")
    found.add_argument("--steps", type=int)
    found.add_argument("--bf16", action="store_true", help="train in bfloat16")
    found.add_argument("--rules", nargs="+", type=rule_named, help="of further super-adapters")
    found.set_defaults(**defaults)
    return found


def rule_named(text: str) -> tuple[str, int]:
    """Name of a rule, and times the passes, such as `spread:2`. Raises `argparse.ArgumentTypeError`."""
    name, _, times = text.partition(":")
    if name not in RULES or not (times or "1").isdecimal() or not int(times or 1):
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(RULES)}, with or without :TIMES")
    return name, int(times or 1)


def limit_of(options: argparse.Namespace, space: Space, part: float) -> Limit:
    """Limit on the predicted latency at a part of the largest overhead. Raises `InfeasibleBudgetError`."""
    limit = limit_at(part, predictor_of(options.predictor), space)
    smallest_that_fits(space, [limit])  # before any training
    return limit


def placements(
    options: argparse.Namespace, limit: Limit, adaptation: Adaptation, super_adapter: SuperAdapter
) -> dict[str, Configuration]:
    """Different placements that are predicted to use a limit, and no more."""
    space = super_adapter.space
    changes = FisherChanges(super_adapter, space, adaptation.examples.train[:GRADIENT_EXAMPLES])
    (incumbent,) = staged(space, changes, limit, [limit.bound])
    starts = portfolio(space, limit, incumbent, changes=changes(space.highest), most=options.placements, seed=0)
    filled = {name: space.decode(space.at(point)) for name, point in starts.items()}
    found = {STAGED: filled.pop(STAGED)}  # differences of the others are to it
    for name, config in {**by_hand(space, limit), **filled}.items():
        if len(found) < options.placements and config not in found.values():
            found[name] = config
    return found


def rules_of(
    options: argparse.Namespace, space: Space, limits: Mapping[float, Limit]
) -> Iterator[tuple[Rule, list[float]]]:
    """Each rule, and the parts at which its super-adapter is judged; draws around a budget are made for each part."""
    for name, times in options.rules:
        passes, text = options.steps * times, name if times == 1 else f"{name}:{times}"
        if name == "budget":
            for part, limit in limits.items():
                yield Rule(text, TrainingStep(BudgetSampler(limit)), passes), [part]
            continue
        step = RULES[name](space)
        yield Rule(text, step, max(1, passes // len(step.codes(space, seed=0, step=0)))), [*limits]


def judged(
    known: Remembered,
    label: Sequence[Json],
    space: Space,
    configs: Mapping[str, Configuration],
    judge: Callable[[], CompletionLoss],
) -> dict[str, Losses]:
    """Loss of each placement as a slice of one super-adapter, summed over each test example."""

    def sums(name: str) -> Losses:
        loss, config = judge(), configs[name]
        say(f"{label}, {name}, {len(config.ranks)} linears")
        return loss.sums(space.encode(config))

    return {name: known([*label, dict(config.ranks)], partial(sums, name)) for name, config in configs.items()}


def by_rule(
    options: argparse.Namespace,
    known: Remembered,
    rule: Rule,
    chosen: Mapping[float, Mapping[str, Configuration]],
    adaptation: Adaptation,
    like: SuperAdapter,
) -> dict[float, dict[str, Losses]]:
    """Losses of the super-adapter of a rule, which is trained unless all of them are known."""
    with ExitStack() as stack:

        @cache
        def judge() -> CompletionLoss:
            other = super_adapter_of(rule, 0, adaptation, like, bf16=options.bf16)
            stack.callback(other.remove)
            return CompletionLoss(other, adaptation.examples.test)

        label = [repr(rule.step), rule.steps, options.bf16]
        return {part: judged(known, label, like.space, configs, judge) for part, configs in chosen.items()}


def alone_of(
    options: argparse.Namespace, adaptation: Adaptation, super_adapter: SuperAdapter, config: Configuration, seed: int
) -> Losses:
    """Sums of nats of the test examples, of an adapter that was trained alone from scratch."""
    say(f"alone, seed {seed}, {len(config.ranks)} linears")
    shape, (paths, ranks) = super_adapter.space.shape, zip(*config.ranks, strict=True)
    space = rank_space("one", shape, [[path] for path in paths], [[rank] for rank in ranks])
    only = SuperAdapter(adaptation.model, space, alpha=super_adapter.alpha, seed=seed)
    trained_by(only, adaptation, TrainingSettings(options.steps, seed, bf16=options.bf16), DEFAULT_STEP)
    found = CompletionLoss(only, adaptation.examples.test).sums(only.largest)
    only.remove()
    return found


def super_adapter_of(rule: Rule, seed: int, adaptation: Adaptation, like: SuperAdapter, *, bf16: bool) -> SuperAdapter:
    """A super-adapter in the space of another, trained by a rule."""
    say(f"super-adapter of {rule}, seed {seed}")
    found = SuperAdapter(adaptation.model, like.space, alpha=like.alpha, seed=seed)
    trained_by(found, adaptation, TrainingSettings(rule.steps, seed, bf16=bf16), rule.step)
    return found


def trained_by(
    super_adapter: SuperAdapter, adaptation: Adaptation, settings: TrainingSettings, step: TrainingStep
) -> None:
    """Trains in place."""
    with tempfile.TemporaryDirectory() as folder:
        train(super_adapter, adaptation.examples.train, settings, folder=folder, step=step)


def rows_of(
    part: float,
    chosen: Mapping[str, Configuration],
    slices: Mapping[str, Mapping[str, Losses]],
    alone: Mapping[str, Losses],
    tokens: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Losses of each placement, nats per token, and paired differences to what staged shrinking found."""
    means = {**slices, "alone": {name: sums.mean(axis=0) for name, sums in alone.items()}}

    def to_start(name: str) -> dict[str, list[float]]:
        return {rule: ends(paired_difference(own[name], own[STAGED], tokens)) for rule, own in means.items()}

    return [
        {
            "part": part,
            "name": name,
            "linears": len(chosen[name].ranks),
            "slice": float(slices[AS_TRAINED][name].sum() / tokens.sum()),
            "slices": {rule: float(own[name].sum() / tokens.sum()) for rule, own in slices.items()},
            "alone": [float(sums.sum() / tokens.sum()) for sums in alone[name]],
            "to_start": to_start(name),
        }
        for name in chosen
    ]


def orders_of(
    part: float,
    slices: Mapping[str, Mapping[str, Losses]],
    alone: Mapping[str, Losses],
    tokens: NDArray[np.int64],
) -> list[dict[str, Any]]:
    """Agreement of the order of each super-adapter with that of training alone, at one part of the overhead."""
    nested = [np.stack(list(each.values())) for each in slices.values()]  # shape (n_placements, n_examples) each
    own = np.stack(list(alone.values()))  # shape (n_placements, n_seeds, n_examples)
    rng = np.random.default_rng(0)
    draws = [[agreement(each, own, tokens) for each in nested]]
    for _ in range(DRAWS):
        examples = rng.integers(len(tokens), size=len(tokens))
        seeds = rng.integers(own.shape[1], size=own.shape[1])
        again = own[:, seeds][..., examples]
        draws.append([agreement(each[:, examples], again, tokens[examples]) for each in nested])
    values = np.array(draws)  # shape (1 + DRAWS, n_rules, n_measures)
    every = own.sum(axis=2) / tokens.sum()
    pairs = [(a, b) for a in range(every.shape[1]) for b in range(a)]
    taus = [float(stats.kendalltau(every[:, a], every[:, b]).statistic) for a, b in pairs]
    return [
        {
            "part": part,
            "rule": rule,
            "placements": len(own),
            **{each: interval(values[:, number, at]) for at, each in enumerate(MEASURES)},
            "beside_first": {
                each: interval(values[:, number, at] - values[:, 0, at]) for at, each in enumerate(MEASURES)
            },
            "alone_tau": float(np.mean(taus)) if taus else None,
        }
        for number, rule in enumerate(slices)
    ]


def agreement(nested: Losses, own: Losses, tokens: NDArray[np.int64]) -> tuple[float, ...]:
    """`MEASURES` of one super-adapter. Shapes (n_placements, n_examples) and (n_placements, n_seeds, n_examples)."""
    by_slice, by_alone = nested.sum(axis=1) / tokens.sum(), own.sum(axis=2).mean(axis=1) / tokens.sum()
    best = int(np.argmin(by_slice))
    return (
        float(stats.kendalltau(by_slice, by_alone).statistic),
        float(stats.linregress(by_slice, by_alone).slope),
        float(by_slice.mean() - by_slice[best]),
        float(by_alone.mean() - by_alone[best]),
        float(by_slice[best] - by_alone.max()),
        float(by_slice.mean()),
    )


def ends(interval: Interval) -> list[float]:
    """Lower end, middle and upper end."""
    return [interval.lower, interval.middle, interval.upper]


def interval(values: NDArray[np.float64]) -> list[float]:
    """Ends of the 95 % bootstrap interval around the first value."""
    lower, upper = np.quantile(values[1:], (0.025, 0.975))
    return [float(lower), float(values[0]), float(upper)]


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    found = [f"{result['model']}, {result['test_examples']} test examples, base {result['base']:.3f}"]
    found += [
        f"  {row['part']:.0%} {row['name']:28} {row['linears']:3} linears  "
        + "  ".join(f"{rule} {loss:.3f}" for rule, loss in row["slices"].items())
        + "  alone "
        + " ".join(f"{each:.3f}" for each in row["alone"])
        for row in result["rows"]
    ]
    for order in result["orders"]:
        values = "  ".join(
            f"{name} {order[name][1]:.2f} [{order[name][0]:.2f}, {order[name][2]:.2f}]" for name in MEASURES
        )
        found.append(f"  {order['part']:.0%} {order['rule']}: {values}  alone_tau {order['alone_tau']}")
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


if __name__ == "__main__":
    main()
