"""Losses of winners of a search, and of one of them trained alone, by the rule of training of the super-adapter.

python benchmarks/training_rules.py --run FOLDER --predictor FILE [--json] [--rules share share-spread]
    [--parts 0.25 0.5 0.75] [--seeds 0] [--steps 150] [--bf16] [--alone 0.25] [--kept FILE]

FOLDER is that of a training, whose base, examples and space are used, FILE a predictor of swappable adapters in decode
(`benchmarks/search.py` leaves both). A super-adapter of each rule of `benchmarks/samplers.py` is trained, for as many
passes. Of each, a winner is found by staged Fisher shrinking at each part of the overhead of the largest adapter: in
four stages to the largest part, and one to each of the others. Its test loss is beside that of the largest rank
everywhere. At the part --alone, the winner is also trained alone, from its slice on, for --steps steps. `budget`, which
draws around a budget, takes one part.

Differences to the first rule are in nats per token, with paired 95 % intervals over the test examples, of means over
the seeds. Every training keeps its losses in a file (--kept), and the same command goes on with what is missing.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from search_order import Rule, ends, limit_of, parser_of_trainings, rules_of, super_adapter_of
from stock_process import conditions, say

from adaptare.profiler import Configuration
from adaptare.search import CompletionLoss, Limit, SuperAdapter
from adaptare.search.algorithms import staged
from adaptare.search.super_adapter import hash_of_weights
from adaptare.search.training import FisherChanges, polished
from adaptare.search.training.quality import paired_difference
from adaptare.search.training.remembered import Remembered
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from search import GRADIENT_EXAMPLES

LARGEST = "rank 16 everywhere"
# Until the largest part.
STAGES = 4
Losses = NDArray[np.float64]


def main() -> None:
    options = parser().parse_args()
    if options.alone not in options.parts:
        parser().error(f"--alone must be one of --parts, not {options.alone:g}")
    if len(set(options.parts)) > 1 and any(name == "budget" for name, _ in options.rules):
        parser().error("budget trains around one part; give one of --parts")
    began = time.monotonic()
    known = Remembered(options.kept or options.run / "rules.jsonl", of=hash_of_weights(options.run))
    adaptation, like = reload_adaptation(options.run)
    like.remove()
    limits = {part: limit_of(options, like.space, part) for part in options.parts}
    sums: dict[str, dict[str, list[Losses]]] = {}
    for rule, _ in rules_of(options, like.space, limits):
        for seed in options.seeds:
            for name, own in losses_of(options, known, rule, seed, limits, adaptation, like).items():
                sums.setdefault(rule.name, {}).setdefault(name, []).append(own)
    tokens = np.array([each.completion_tokens for each in adaptation.examples.test])
    means = {rule: {name: np.mean(each, axis=0) for name, each in judged.items()} for rule, judged in sums.items()}
    first = next(iter(means.values()))
    result = {
        **conditions(torch.get_num_threads()),
        **{name: getattr(options, name) for name in ("parts", "seeds", "steps", "bf16", "alone")},
        "model": adaptation.task.model_name,
        "test_examples": len(tokens),
        "train_examples": len(adaptation.examples.train),
        "rows": [
            {
                "rule": rule,
                "name": name,
                "loss": float(own.sum() / tokens.sum()),
                "difference": ends(paired_difference(own, first[name], tokens)),
                "by_seed": [float(each.sum() / tokens.sum()) for each in sums[rule][name]],
            }
            for rule, judged in means.items()
            for name, own in judged.items()
        ],
        "elapsed_s": time.monotonic() - began,
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    rules = [("share", 1), ("share-spread", 1)]
    found = parser_of_trainings(__doc__, parts=[0.25, 0.5, 0.75], seeds=[0], steps=150, rules=rules)
    found.add_argument("--alone", type=float, default=0.25, help="part at which the winner is trained alone")
    return found


def losses_of(
    options: argparse.Namespace,
    known: Remembered,
    rule: Rule,
    seed: int,
    limits: Mapping[float, Limit],
    adaptation: Adaptation,
    like: SuperAdapter,
) -> dict[str, Losses]:
    """Losses of the winners and of the largest rank everywhere, summed over each test example."""
    with ExitStack() as stack:

        @cache
        def made() -> SuperAdapter:
            found = super_adapter_of(rule, seed, adaptation, like, bf16=options.bf16)
            stack.callback(found.remove)
            return found

        @cache
        def winners() -> dict[float, Configuration]:
            space, examples = made().space, adaptation.examples.train[:GRADIENT_EXAMPLES]
            descending = sorted(limits, reverse=True)
            bounds = [limits[part].bound for part in descending]
            changes = FisherChanges(made(), space, examples)
            points = staged(space, changes, limits[descending[0]], bounds, stages=STAGES)
            return {part: space.decode(space.at(point)) for part, point in zip(descending, points, strict=True)}

        def sums(config: Configuration) -> Losses:
            say(f"{rule.name}, {len(config.ranks)} linears")
            return CompletionLoss(made(), adaptation.examples.test).sums(made().codes(config))

        def alone(part: float) -> Losses:
            say(f"{rule.name}, winner at {part} alone")
            train = adaptation.examples.train
            with polished(made(), winners()[part], train, steps=options.steps, seed=seed, bf16=options.bf16) as only:
                return CompletionLoss(only, adaptation.examples.test).sums(only.largest)

        makers: dict[str, Callable[[], Losses]] = {
            f"winner at {part}": partial(lambda part: sums(winners()[part]), part) for part in limits
        }
        makers[f"winner at {options.alone}, alone"] = partial(alone, options.alone)
        makers[LARGEST] = lambda: sums(made().space.decode(made().largest))
        bounds = [each.bound for each in limits.values()]
        label = [repr(rule.step), rule.steps, options.steps, options.bf16, seed, bounds]
        return {name: known([*label, name], make) for name, make in makers.items()}


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    found = [f"{result['model']}, {result['steps']} passes, {result['test_examples']} test examples"]
    for row in result["rows"]:
        lower, middle, upper = row["difference"]
        found.append(
            f"  {row['rule']:14} {row['name']:24} {row['loss']:.3f}  {middle:+.3f} [{lower:+.3f}, {upper:+.3f}]"
        )
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


if __name__ == "__main__":
    main()
