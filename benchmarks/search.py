"""What the search gains at equal predicted latency: over choices by hand, other algorithms, and proxies of latency.

python benchmarks/search.py [--json] [--folder search-benchmark] [--predictor FILE] [--data FILE]
    [--model smollm2-135m] [--device ort-cpu:int4,threads=1] [--parts 0.25 0.5 0.75] [--seeds 0 1 2 3 4]
    [--steps 90] [--held-out 200] [--evaluations 120] [--bf16] [--count 40] [--seconds 1600]
    [--trained FOLDER] [--no-published]

Adapters of ranks 0 to 16 are profiled in decode, each linear with a rank of its own, and a predictor is fitted, unless
one is given; `error_card` has its errors on held-out adapters. A seed is a split of the dialogues into examples to
train on, to validate and to test, and one training of a super-adapter. For each seed and each part of the overhead of
the largest adapter, `adaptare search` looks for a winner; beside it stand

- its own greedy choice by gate gradients, and the best of as many random configurations by validation loss;
- choices by hand: all linears, q and v, attention, or the MLPs, of every k-th layer, with the smallest k and then the
  largest rank that fit;
- `AdaLoRA`, `EVA` and `PLoP`, with the most ranks that fit, see `search_published.py`;
- `staged-fisher` alone, without a race, which the winner may be too; and with the number of parameters or of adapted
  linears as its cost instead of the predicted latency, with the largest limit on that cost at which the latency fits;
- the largest rank everywhere, which does not fit, and the base without adapter.

All but those are predicted to be within the limit (upper ends). Losses are nats per completion token of the test
examples, which guided no choice, of slices of the super-adapter. Differences to the winner are means over seeds with
95 % intervals of Student's t over them; as each seed has its own examples and training, these cover both. On
multiple-choice data, the share of right answers to the test questions stands beside each loss, and that of the position
which is right most often in training.

Every part keeps its result in the folder, and the same command goes on with what is missing. A folder without the rows
of the published methods (`published-SEED.json`) gets them without any other part being computed again. `--trained`
takes the trainings of another folder of this script, for a device with the same weights.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from below_base import command, kept, quantisation_of
from numpy.typing import NDArray
from search_published import SCORES, Scores, published
from stock_process import conditions, mean_interval, say

from adaptare.core.codec import from_json, to_json
from adaptare.predictor import FittedPredictor, load_predictor
from adaptare.profiler import Configuration, Space
from adaptare.search import CompletionLoss, Limit, PredictedUpperEnd, SuperAdapter
from adaptare.search.algorithms import filled, staged
from adaptare.search.training import Answers, FisherChanges, Remembered
from adaptare.workflows.search.evaluating import remembered_in
from adaptare.workflows.train.adaptation import Adaptation, reload_adaptation
from adaptare.workflows.tuning import RANKS

DECODE = ("-d", "64")
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
BY_HAND = {"all linears": (*ATTENTION, *MLP), "q and v": ("q_proj", "v_proj"), "attention": ATTENTION, "MLPs": MLP}
# Limits on a proxy, as parts of its largest value, and halvings of the interval between two of them.
PROXY_PARTS, HALVINGS = np.geomspace(0.9, 0.05, 12), 12
GRADIENT_EXAMPLES = 64
# Of the overhead of the largest adapter.
PARTS = (0.25, 0.5, 0.75)
Points = NDArray[np.int64]


@dataclass(frozen=True)
class Proxy:
    """A cost that needs no measurement: a sum over the sites of an adapter.

    Args:
        name: With its unit.
        of_sites: Cost of each site at each rank.
    """

    name: str
    of_sites: Callable[[Points], NDArray[np.float64]]

    def __call__(self, codes: Points, /) -> NDArray[np.float64]:
        """Shape (n, n_sites) -> (n,)."""
        return self.of_sites(codes).sum(axis=1)


def main() -> None:
    options = parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    predictor = options.predictor or profiled(options)
    seeds = [of_seed(options, predictor, seed) for seed in options.seeds]
    settings = ("model", "device", "steps", "held_out", "evaluations", "bf16", "parts", "seeds")
    result = {
        **conditions(1),
        **{name: getattr(options, name) for name in settings},
        "error_card": to_json(load_predictor(predictor).error_card),
        "rows": [row for part in options.parts for row in summary(part, seeds)],
        "by_seed": seeds,
        "elapsed_s": time.monotonic() - began,
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--folder", type=Path, default=Path("search-benchmark"))
    found.add_argument("--trained", type=Path, help="folder of this script with trainings to take")
    found.add_argument("--predictor", type=Path, help="of swappable adapters in decode, from `adaptare fit`")
    found.add_argument("--data", type=Path, help="examples; default: the dialogues")
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--device", default="ort-cpu:int4,threads=1")
    found.add_argument("--parts", type=float, nargs="+", default=list(PARTS), help="of the largest overhead")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    found.add_argument("--steps", type=int, default=90)
    found.add_argument("--held-out", type=int, default=200)
    found.add_argument("--evaluations", type=int, default=120)
    found.add_argument("--bf16", action="store_true", help="train, search and compute losses in bfloat16")
    found.add_argument("--count", type=int, default=40, help="adapters to profile")
    found.add_argument("--seconds", type=float, default=1600.0, help="of profiling")
    found.add_argument("--no-published", action="store_true", help="without the published methods")
    return found


def folder_options(description: str | None, parts: Sequence[float] = ()) -> argparse.ArgumentParser:
    """Options of the command line of a script that goes on with the folder of this one, in several parts or not."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--folder", type=Path, required=True)
    if parts:
        found.add_argument("--parts", type=float, nargs="+", default=list(parts), help="of the largest overhead")
    found.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    found.add_argument("--bf16", action="store_true", help="as in the call of search.py")
    return found


def profiled(options: argparse.Namespace) -> Path:
    """A predictor of swappable adapters, from a profile."""
    on = ("--device", options.device, "--store", options.folder / "store.db", *DECODE, "--mode", "swappable")
    how = ("--rank", ",".join(map(str, RANKS)), "--count", options.count, "--half-width", "0.5%")
    pace = ("--seconds", options.seconds)
    kept(options.folder / "profile.json", lambda: command("profile", options.model, *on, *how, *pace))
    predictor: Path = options.folder / "predictor"
    kept(options.folder / "fit.json", lambda: command("fit", *on, "-o", predictor))
    return predictor


def of_seed(options: argparse.Namespace, predictor: Path, seed: int) -> Any:
    """Test losses of all choices of one training, by part of the overhead."""
    trained, by_seed = options.trained or options.folder, ("--seed", seed, *(["--bf16"] if options.bf16 else []))
    run = trained / f"run-{seed}"
    data = ("--held-out", options.held_out, *(("--data", options.data) if options.data else ()))
    adapters = ("--space", "blocks", "--rank", ",".join(map(str, RANKS)), "--quantise", quantisation_of(options))
    train = ("train", options.model, "-o", run, "--steps", options.steps, *adapters, *data)
    kept(trained / f"train-{seed}.json", lambda: command(*train, *by_seed))

    def found(part: float) -> Any:
        front, file = (options.folder / f"{each}-{seed}-{part}.json" for each in ("front", "search"))
        budget = f"overhead={overhead(fitted, run, part):.4%}"
        search = ("search", run, "--predictor", predictor, "--budget", budget, "-o", front)
        result = kept(file, lambda: command(*search, "--evaluations", options.evaluations, *by_seed))
        if result["budget"] != budget:
            raise SystemExit(f"{file} is of the budget {result['budget']}, not {budget}; name another --folder")
        return result

    def scored(method: str) -> Any:
        say(f"scores of {method} for {run}")
        return kept(trained / f"{method}-{seed}.json", lambda: SCORES[method](run))

    def of_published() -> list[dict[str, Any]]:
        return judged_published(fitted, run, searches, {method: scored(method) for method in SCORES}, bf16=options.bf16)

    fitted = predictor_of(predictor)
    searches = {part: found(part) for part in options.parts}
    losses = kept(options.folder / f"losses-{seed}.json", lambda: judged(fitted, run, searches, bf16=options.bf16))
    if options.no_published:
        return losses
    return [*losses, *kept(options.folder / f"published-{seed}.json", of_published)]


def predictor_of(file: Path) -> FittedPredictor:
    """Predictor of ratios to the base, as a search uses it for a budget of overhead."""
    return load_predictor(file).relative


def overhead(predictor: FittedPredictor, run: Path, part: float) -> float:
    """Overhead that is a part of the largest adapter's, both by the upper ends of their predictions."""
    return limit_at(part, predictor, reload_adaptation(run)[1].space).bound / predictor.base_value - 1


def limit_at(part: float, predictor: FittedPredictor, space: Space) -> Limit:
    """Limit on predicted upper ends at a part of the overhead of the largest adapter."""
    upper, base = PredictedUpperEnd(predictor, space.dimensions), predictor.base_value
    return Limit(upper, base + part * (float(upper(space.at(space.highest)[None])[0]) - base))


@dataclass(frozen=True)
class Judge:
    """Judges choices of one training by their loss on the test examples.

    Args:
        adaptation: Test examples.
        super_adapter: Source of the slices.
        upper: Predicted latency.
        remembered: Losses and estimates that searches of this training computed.
    """

    adaptation: Adaptation
    super_adapter: SuperAdapter
    upper: PredictedUpperEnd
    remembered: Remembered

    @cached_property
    def loss(self) -> CompletionLoss:
        """Loss on the test examples."""
        return CompletionLoss(self.super_adapter, self.adaptation.examples.test, remembered=self.remembered)

    def limit(self, search: Mapping[str, Any]) -> Limit:
        """The limit of a search, on predicted upper ends."""
        return Limit(self.upper, float(search["limit"]))

    @cached_property
    def answers(self) -> Answers:
        """Answers to the test questions."""
        questions = self.adaptation.examples.test_questions
        return Answers(self.super_adapter, questions, remembered=self.remembered)

    def rows(
        self, part: float, limit: Limit, choices: Mapping[str, Configuration], winner: Configuration
    ) -> list[dict[str, Any]]:
        """Predicted latency, loss, and difference to the loss of the winner, of each choice."""
        space, examples, rows = self.super_adapter.space, self.adaptation.examples, []
        for name, config in choices.items():
            codes = space.encode(config)
            difference = self.loss.difference(codes, space.encode(winner))
            row = {
                "part": part,
                "name": name,
                "linears": len(config.ranks),
                "predicted_upper_s": float(self.upper(codes[None])[0]),
                "limit_s": limit.bound,
                "loss": float(self.loss(codes[None])[0]),
                "difference": [difference.lower, difference.middle, difference.upper],
            }
            if questions := examples.test_questions:
                row["right"] = float(self.answers.right(codes).mean())
                row["majority"] = float(np.mean([each.answer == examples.majority for each in questions]))
            rows.append(row)
        return rows


def judge_of(predictor: FittedPredictor, run: Path, *, bf16: bool = False) -> Judge:
    """Judge of the training in a folder."""
    adaptation, super_adapter = reload_adaptation(run)
    super_adapter.bf16 = bf16
    upper = PredictedUpperEnd(predictor, super_adapter.space.dimensions)
    return Judge(adaptation, super_adapter, upper, remembered_in(run, adaptation.task, bf16=bf16))


def judged(predictor: FittedPredictor, run: Path, searches: Mapping[float, Any], *, bf16: bool) -> list[dict[str, Any]]:
    """Rows of the winner of each search, and of all other choices but the published ones."""
    judge, rows = judge_of(predictor, run, bf16=bf16), []
    for part, choices in choices_of(judge, searches).items():
        rows += judge.rows(part, judge.limit(searches[part]), choices, choices["winner"])
    return rows


def choices_of(judge: Judge, searches: Mapping[float, Any]) -> dict[float, dict[str, Configuration]]:
    """For each part, the winner of the search and all other choices but the published ones."""
    super_adapter, examples = judge.super_adapter, judge.adaptation.examples
    space, found = super_adapter.space, {}
    changes = FisherChanges(super_adapter, space, examples.train[:GRADIENT_EXAMPLES], judge.remembered)
    limits = {part: judge.limit(search) for part, search in searches.items()}
    by_proxy = {proxy.name: within(space, changes, proxy, list(limits.values())) for proxy in proxies(space)}
    for number, (part, limit) in enumerate(limits.items()):
        search = searches[part]
        named = {"winner": search["winners"][0], **{row["name"]: row for row in search["baselines"]}}
        choices = {
            name: from_json(Configuration, named[name]["configuration"])
            for name in ("winner", "random search", "greedy by gate gradients")
            if name in named
        }
        choices |= by_hand(space, limit)
        choices["staged-fisher"] = space.decode(space.at(staged(space, changes, limit, [limit.bound])[0]))
        reached = {name: points[number] for name, points in by_proxy.items()}
        choices |= {name: space.decode(space.at(point)) for name, point in reached.items() if point is not None}
        found[part] = choices | {
            "rank 16 everywhere": space.decode(space.at(space.highest)),
            "no adapter": space.decode(space.base),
        }
    return found


def judged_published(
    predictor: FittedPredictor, run: Path, searches: Mapping[float, Any], scores: Scores, *, bf16: bool
) -> list[dict[str, Any]]:
    """Rows of the published methods, beside the winner of each search."""
    judge, rows = judge_of(predictor, run, bf16=bf16), []
    for part, search in searches.items():
        limit = judge.limit(search)
        winner = from_json(Configuration, search["winners"][0]["configuration"])
        rows += judge.rows(part, limit, published(judge.super_adapter.space, limit, scores), winner)
    return rows


def by_hand(space: Space, limit: Limit) -> dict[str, Configuration]:
    """For each kind of placement, every k-th layer, with the smallest k and then the largest rank that fit."""
    ranks = sorted({rank for rank in RANKS if rank}, reverse=True)
    found = {}
    for place, kinds in BY_HAND.items():
        for k, rank in product(range(1, space.shape.layers + 1), ranks):
            sites = [site for site in space.sites if site.kind in kinds and site.layer % k == k - 1]
            config = Configuration.of({site.path: rank for site in sites})
            if limit.cost(space.encode(config)[None])[0] <= limit.bound:
                found[place] = config
                break
    return found


def proxies(space: Space) -> Iterator[Proxy]:
    """What stands for latency elsewhere; multiplications of a decode step are as many as parameters."""
    sizes = np.array([site.in_features + site.out_features for site in space.sites], dtype=np.float64)
    yield Proxy("staged-fisher by parameters", lambda codes: codes * sizes)
    yield Proxy("staged-fisher by linears", lambda codes: (codes > 0).astype(np.float64))


def within(space: Space, changes: FisherChanges, proxy: Proxy, limits: Sequence[Limit]) -> list[Points | None]:
    """For each limit on the latency, what staged shrinking by a proxy finds at its largest bound that fits."""
    largest = float(proxy(space.at(space.highest)[None])[0])
    bounds = (largest * PROXY_PARTS).tolist()
    points = [space.highest, *staged(space, changes, Limit(proxy, bounds[0]), bounds)]

    def fits(point: Points, limit: Limit) -> bool:
        return bool(limit.cost(space.at(point)[None])[0] <= limit.bound)

    found: list[Points | None] = []
    for limit in limits:
        number = next((number for number, point in enumerate(points) if fits(point, limit)), 0)
        if not number:
            found.append(None)
            continue
        point, table = points[number], changes(points[number])
        low, high = bounds[number - 1], [largest, *bounds][number - 1]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            more = filled(space, points[number], table, Limit(proxy, middle), middle)
            low, high, point = (middle, high, more) if fits(more, limit) else (low, middle, point)
        found.append(point)
    return found


def summary(part: float, seeds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Mean over seeds of the loss of each choice, and of its difference to the winner, with an interval."""
    rows = [[row for row in seed if row["part"] == part] for seed in seeds]
    found = []
    for name in dict.fromkeys(row["name"] for seed in rows for row in seed):
        own = [row for seed in rows for row in seed if row["name"] == name]
        differences = [row["difference"][1] for row in own]
        found.append(
            {
                "part": part,
                "name": name,
                "seeds": len(own),
                "linears": float(np.mean([row["linears"] for row in own])),
                "loss": float(np.mean([row["loss"] for row in own])),
                **{key: float(np.mean([row[key] for row in own])) for key in ("right", "majority") if key in own[0]},
                "difference": mean_interval(differences) if len(own) > 1 else own[0]["difference"],
                "worse_in": sum(difference > 0 for difference in differences),
            }
        )
    return found


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    error = result["error_card"]["mae_overhead_points"]
    found = [
        f"{result['model']} on {result['device']}, {result['processor']}, {result['date']}",
        f"predictor: error of {error:.2f} points of overhead on held-out adapters",
    ]
    for row in result["rows"]:
        lower, middle, upper = row["difference"]
        found.append(
            f"  {row['part']:.0%} {row['name']:28} {row['linears']:5.1f} linears  loss {row['loss']:.3f}  "
            f"{middle:+.3f} [{lower:+.3f}, {upper:+.3f}]  worse in {row['worse_in']} of {row['seeds']}"
            + (f"  right {row['right']:.1%}, majority {row['majority']:.1%}" if "right" in row else "")
        )
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


if __name__ == "__main__":
    main()
