"""Regret of a winner that was searched for one runtime and runs in another one.

python benchmarks/runtime_regret.py --front FRONT.json --predictor PREDICTOR --device llama-cpu:int4,threads=1
    [--folder FOLDER] [--evaluations 40] [--seconds 120] [--json]

The front is of `adaptare search` or `adaptare demo`, of any runtime. The predictor, of the device, says what its first
winner costs there; a search with that predictor and that overhead as its budget finds what could have been had for the
same cost. The regret is the difference of their losses on examples that guided no choice, with a 95 % interval over
these. Then both are measured on the device in one session, later than the rows of the predictor. Searches keep their
results in the folder.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from below_base import command, kept
from stock_process import conditions

from adaptare.predictor import load_predictor
from adaptare.profiler import precise_within, programs_for
from adaptare.profiler.analysis import Interval
from adaptare.profiler.measuring import Session
from adaptare.search import CompletionLoss
from adaptare.workflows.search.result import Choice, load_result
from adaptare.workflows.target import spelled, target_of
from adaptare.workflows.train.adaptation import reload_adaptation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--front", type=Path, required=True)
    parser.add_argument("--predictor", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--folder", type=Path, default=Path("runtime-regret"))
    parser.add_argument("--evaluations", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=120.0, help="of measuring; 0: only searches")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    elsewhere, fitted = load_result(options.front), load_predictor(options.predictor)
    winner = elsewhere.winners[0]
    overhead = fitted.relative.predict_configs([winner.configuration]).interval(0).upper / fitted.base_value - 1
    own = options.folder / "front.json"
    words = (
        "search",
        elsewhere.folder,
        "--predictor",
        options.predictor,
        "--budget",
        f"overhead={100 * overhead:.3f}%",
    )
    kept(options.folder / "search.json", lambda: command(*words, "--evaluations", options.evaluations, "-o", own))
    found = load_result(own)
    choices = [winner, found.winners[0]]
    rows = [
        {
            "searched_for": spelled(place.device, place.quantisation, place.dtype),
            "sites": len(choice.configuration.ranks),
            "val_loss": choice.val_loss,
            "test_loss": choice.test_loss,
            **measured,
        }
        for place, choice, measured in zip(
            (elsewhere.place, found.place), choices, measure(options, choices) or [{}, {}], strict=True
        )
    ]
    regret = regret_of(Path(elsewhere.folder), *choices)
    facts = conditions(target_of(options.device).device.info().threads)
    result = {"device": options.device, "budget": overhead, "rows": rows, "regret_nats": asdict(regret), **facts}
    print(json.dumps(result, indent=None if options.json else 1))


def regret_of(folder: Path, winner: Choice, own: Choice) -> Interval:
    """Loss on the test examples of a winner of elsewhere, minus that of the device's own."""
    adaptation, super_adapter = reload_adaptation(folder)
    loss = CompletionLoss(super_adapter, adaptation.examples.test)
    return loss.difference(*(super_adapter.codes(choice.configuration) for choice in (winner, own)))


def measure(options: argparse.Namespace, choices: list[Choice]) -> list[dict[str, Any]]:
    """Overhead of each choice on the device."""
    if not options.seconds:
        return []
    target = target_of(options.device)
    template = load_predictor(options.predictor).template
    workloads = [template.with_configuration(choice.configuration) for choice in choices]
    stop = precise_within(0.005, options.seconds)
    session = Session(target.device, stop, programs=programs_for(target.device.info()))
    rows = session.measure(workloads, reference=template.base)
    return [
        {
            "overhead": row.overhead.middle,
            "lower": row.overhead.lower,
            "upper": row.overhead.upper,
            "failure": row.failure,
        }
        for row in rows
    ]


if __name__ == "__main__":
    main()
