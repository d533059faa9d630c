"""Kinds of linears with the largest rank in every layer, beside the winner of a search.

python benchmarks/search_kinds.py --folder FOLDER [--json] [--parts 0.5] [--seeds 0 1 2] [--bf16]

FOLDER is that of `search.py`, whose searches are taken. Compared are sets of kinds of linears that are predicted to be
within the limit of a search, and that no further kind fits into. The space of the searches has hardly any of them: one
rank for the attention and one for the MLP of each layer. The set with the lowest loss on the validation examples is
compared with the winner on the test examples, which chose neither. Differences are nats per token, positive where the
winner is better, with 95 % intervals over the examples; over trainings, of Student's t.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from search_latency import of_file
from stock_process import conditions, mean_interval, say

from adaptare.core.codec import from_json
from adaptare.predictor import FittedPredictor
from adaptare.profiler import Configuration, Space
from adaptare.profiler.analysis import Interval
from adaptare.search import CompletionLoss, Limit
from search import ATTENTION, MLP, RANKS, folder_options, judge_of, predictor_of

Kinds = tuple[str, ...]


def main() -> None:
    options = folder_options(__doc__, (0.5,)).parse_args()
    fitted = predictor_of(options.folder / "predictor")
    rows = [row for seed in options.seeds for row in of_training(options, fitted, seed)]
    result = {
        **conditions(1),
        "device": fitted.device.device,
        "bf16": options.bf16,
        "rows": rows,
        "over_trainings": {part: over_trainings(rows, part) for part in options.parts},
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def of_training(options: argparse.Namespace, fitted: FittedPredictor, seed: int) -> Iterator[dict[str, Any]]:
    """A row for each part of the overhead: every set of kinds on validation examples, and the best one on the test."""
    judge = judge_of(fitted, options.folder / f"run-{seed}", bf16=options.bf16)
    space, examples = judge.super_adapter.space, judge.adaptation.examples.validation
    loss = CompletionLoss(judge.super_adapter, examples, remembered=judge.remembered)
    for part in options.parts:
        search = of_file(options.folder / f"search-{seed}-{part}.json")
        winner = space.encode(from_json(Configuration, search["winners"][0]["configuration"]))
        sets = {kinds: space.encode(everywhere(kinds, space)) for kinds in fullest(space, judge.limit(search))}
        if not sets:
            raise SystemExit(f"no kind of linear fits {part:g} of the overhead in every layer; name larger --parts")
        say(f"{len(sets)} sets of kinds, seed {seed}, {part:g} of the overhead")
        on_validation = {kinds: loss.difference(codes, winner) for kinds, codes in sets.items()}
        best = min(on_validation, key=lambda kinds: on_validation[kinds].middle)
        yield {
            "seed": seed,
            "part": part,
            "validation": {name(kinds): three_ends(each) for kinds, each in on_validation.items()},
            "best": name(best),
            "test": three_ends(judge.loss.difference(sets[best], winner)),
        }


def fullest(space: Space, limit: Limit) -> list[Kinds]:
    """Sets of kinds within a limit that no further kind fits into."""
    kinds = (*ATTENTION, *MLP)
    sets = [some for n in range(1, 1 + len(kinds)) for some in combinations(kinds, n)]
    fitting = [some for some in sets if limit.cost(space.encode(everywhere(some, space))[None])[0] <= limit.bound]
    return [some for some in fitting if not any(set(some) < set(more) for more in fitting)]


def everywhere(kinds: Kinds, space: Space) -> Configuration:
    """The largest rank on all linears of some kinds."""
    return Configuration.of({site.path: max(RANKS) for site in space.sites if site.kind in kinds})


def name(kinds: Kinds) -> str:
    """Names of kinds, such as `v, gate, down`."""
    return ", ".join(kind.removesuffix("_proj") for kind in kinds)


def three_ends(difference: Interval) -> list[float]:
    """Lower end, middle and upper end."""
    return [difference.lower, difference.middle, difference.upper]


def over_trainings(rows: list[dict[str, Any]], part: float) -> tuple[float, float, float] | None:
    """Mean difference on test examples, with its interval."""
    means = [row["test"][1] for row in rows if row["part"] == part]
    return mean_interval(means) if len(means) > 1 else None


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """For people."""
    for row in result["rows"]:
        lower, middle, upper = row["test"]
        yield f"seed {row['seed']}, {row['part']:.0%}: {row['best']}  {middle:+.3f} [{lower:+.3f}, {upper:+.3f}]"
    for part, difference in result["over_trainings"].items():
        if difference:
            lower, middle, upper = difference
            yield f"{part:.0%} over trainings  {middle:+.3f} [{lower:+.3f}, {upper:+.3f}]"


if __name__ == "__main__":
    main()
