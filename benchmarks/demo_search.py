"""Choices of the demo's search and of simpler searches, with more examples than the demo has time for.

python benchmarks/demo_search.py [--json] [--folder FOLDER] [--model smollm2-135m] [--device ort-cpu:int4,threads=1]
    [--steps 90] [--held-out 200] [--evaluations 60] [--polish 30] [--count 31] [--seconds 110] [--seed 0]

The commands of `adaptare demo` in a row: adapters of ranks 0 to 16 are profiled and a predictor is fitted; a
super-adapter is trained on the dialogues; its adapters are searched under the budget of the demo, halfway between
the predictions for the base and for rank 16 everywhere, with as many evaluations for the random search; the first
winner is trained some steps further. Nothing is measured again: `adaptare verify FOLDER/front.json` does that.

Losses are nats per completion token, of examples that guided no choice. The difference of each choice to the first
winner is paired over the examples, with its 95 % interval; that of the polished winner is to itself before.

Every part keeps its result in the folder, and the same command goes on with what is missing.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from below_base import command, kept, quantisation_of
from stock_process import conditions

from adaptare.predictor import load_predictor
from adaptare.profiler import named_space, open_model
from adaptare.workflows.tuning import RANKS, halfway

DECODE = ("-d", "64")


def main() -> None:
    options = parser().parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    found = searched(options)
    rows = [*found["winners"], *found["baselines"]]
    result = {
        **conditions(1),
        **{name: getattr(options, name) for name in ("model", "device", "steps", "evaluations", "polish", "seed")},
        "examples": options.held_out,
        **{name: found[name] for name in ("budget", "limit", "base")},
        "rows": [row_of(each) for each in rows],
        "elapsed_s": time.monotonic() - began,
    }
    print(json.dumps(result) if options.json else "\n".join(lines(result)))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--folder", type=Path, default=Path("demo-search"))
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--device", default="ort-cpu:int4,threads=1")
    found.add_argument("--steps", type=int, default=90)
    found.add_argument("--held-out", type=int, default=200)
    found.add_argument("--evaluations", type=int, default=60)
    found.add_argument("--polish", type=int, default=30)
    found.add_argument("--count", type=int, default=31, help="adapters to profile")
    found.add_argument("--seconds", type=float, default=110.0, help="of profiling")
    found.add_argument("--seed", type=int, default=0)
    return found


def searched(options: argparse.Namespace) -> Any:
    """The search report, after the commands that lead to it."""
    folder, seed = options.folder, ("--seed", options.seed)
    on = ("--device", options.device, "--store", folder / "store.db")
    ranks = ("--rank", ",".join(map(str, RANKS)))
    profile = ("profile", options.model, *on, *DECODE, *ranks, "--space", "blocks", "--mode", "swappable")
    pace = ("--count", options.count, "--seconds", options.seconds)
    kept(folder / "profile.json", lambda: command(*profile, *pace, *seed))
    predictor = folder / "predictor"
    kept(folder / "fit.json", lambda: command("fit", *on, *DECODE, "--mode", "swappable", "-o", predictor))
    data = ("--held-out", options.held_out, "--quantise", quantisation_of(options))
    train = ("train", options.model, "-o", folder / "run", "--steps", options.steps, "--space", "blocks", *ranks, *data)
    kept(folder / "train.json", lambda: command(*train, *seed))
    budget = halfway(load_predictor(predictor), named_space("blocks", open_model(options.model).shape, ranks=RANKS))
    search = ("search", folder / "run", "--predictor", predictor, "--budget", budget, "-o", folder / "front.json")
    effort = ("--evaluations", options.evaluations, *(("--polish", options.polish) if options.polish else ()))
    return kept(folder / "search.json", lambda: command(*search, *effort, *seed))


def row_of(choice: Mapping[str, Any]) -> dict[str, Any]:
    """A choice, without the ranks of its sites."""
    others = {name: value for name, value in choice.items() if name != "configuration"}
    return {"sites": len(choice["configuration"]["ranks"]), **others}


def lines(result: Mapping[str, Any]) -> list[str]:
    """For people."""
    found = [
        f"{result['model']} on {result['device']}, {result['processor']}, {result['date']}",
        f"budget {result['budget']}: {1e3 * result['limit']:.2f} ms; base {1e3 * result['base']:.2f} ms",
    ]
    for row in result["rows"]:
        difference = ""
        if row["loss_difference"]:
            lower, middle, upper = row["loss_difference"].values()
            difference = f"  difference {middle:+.3f} [{lower:+.3f}, {upper:+.3f}]"
        ends = f"{1e3 * row['predicted']['middle']:.2f} ms, at most {1e3 * row['predicted']['upper']:.2f}"
        found.append(
            f"  {row['name']:24} {row['sites']:3} linears  {ends}  test loss {row['test_loss']:.3f}{difference}"
        )
    return [*found, f"{result['elapsed_s'] / 60:.1f} minutes"]


if __name__ == "__main__":
    main()
