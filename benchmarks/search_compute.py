"""Compute of a super-adapter and its search, in trainings of one adapter alone.

python benchmarks/search_compute.py --folder FOLDER [--seed 0] [--part 0.5] [--steps 90] [--held-out 200]
    [--evaluations 8] [--bf16] [--json]

FOLDER is that of `benchmarks/search.py`, whose options these are. One of its trainings, and one of its searches on that
training, are repeated in a temporary folder, where nothing is remembered. Their tokens are counted as they go through
the model: those with gradients, which count twice, as their gradients with respect to the activations go back through
the same matrices; and those without. An adapter that is trained alone takes as much as the super-adapter, whose step
trains one configuration. Counts depend on the examples, not on the machine.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from stock_process import conditions, say
from transformers.models.llama.modeling_llama import LlamaModel

from adaptare.core.progress import SILENT
from adaptare.search import TrainingSettings, read_budget
from adaptare.workflows.search.searching import SearchRequest, search_folder
from adaptare.workflows.train.task import TrainingData
from adaptare.workflows.train.training import TrainRequest, train
from search import RANKS, overhead, predictor_of

# Passes of a token with gradients: forward, and back through the same matrices.
WITH_GRADIENTS = 2


def main() -> None:
    options = parser().parse_args()
    predictor = options.folder / "predictor"
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        say("training")
        with counting() as trained:
            train(training(options, run), feedback=SILENT)
        budget = read_budget(f"overhead={overhead(predictor_of(predictor), run, options.part):.4%}")
        request = SearchRequest(
            run, [predictor], [budget], evaluations=options.evaluations, bf16=options.bf16, seed=options.seed
        )
        say(f"search within {budget}")
        with counting() as searched:
            found = search_folder(request, feedback=SILENT)
    settings = ("seed", "part", "steps", "held_out", "evaluations", "bf16")
    result = {
        **conditions(1),
        **{name: getattr(options, name) for name in settings},
        **summary(trained, searched, evaluated=sum(found.evaluations.values())),
    }
    print(json.dumps(result) if options.json else "\n".join(f"{name}: {value}" for name, value in result.items()))


def parser() -> argparse.ArgumentParser:
    """Options of the command line."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--json", action="store_true")
    found.add_argument("--folder", type=Path, required=True)
    found.add_argument("--model", default="smollm2-135m")
    found.add_argument("--quantise", default="int4")
    found.add_argument("--data", type=Path, help="examples; default: the dialogues")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--part", type=float, default=0.5)
    found.add_argument("--steps", type=int, default=90)
    found.add_argument("--held-out", type=int, default=200)
    found.add_argument("--evaluations", type=int, default=8)
    found.add_argument("--bf16", action="store_true")
    return found


def training(options: argparse.Namespace, run: Path) -> TrainRequest:
    """That of `search.py`."""
    data = TrainingData(options.seed, options.data, held_out=options.held_out)
    settings = TrainingSettings(options.steps, options.seed, bf16=options.bf16)
    return TrainRequest(options.model, run, data, settings, space="blocks", ranks=RANKS, quantisation=options.quantise)


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Counts the tokens that go through a Llama meanwhile, with and without gradients."""
    counts, forward = Counter[str](gradients=0, forward=0), LlamaModel.forward

    def counted_forward(self: LlamaModel, *arguments: Any, **named: Any) -> Any:
        tokens = named.get("input_ids", arguments[0] if arguments else None)
        tokens = named["inputs_embeds"][..., 0] if tokens is None else tokens
        counts["gradients" if torch.is_grad_enabled() else "forward"] += tokens.numel()
        return forward(self, *arguments, **named)

    with patch.object(LlamaModel, "forward", counted_forward):
        yield counts


def summary(trained: Mapping[str, int], searched: Mapping[str, int], *, evaluated: int) -> dict[str, Any]:
    """Work of both in trainings of one adapter alone.

    Args:
        trained: Tokens of the training of the super-adapter, with its looks at the validation loss.
        searched: Tokens of the search.
        evaluated: Configurations that it evaluated.
    """
    if not trained["gradients"]:
        raise SystemExit("no token went through a Llama; this counts those of --model smollm2-135m and other Llamas")
    alone = WITH_GRADIENTS * trained["gradients"]
    train_work, search_work = (WITH_GRADIENTS * each["gradients"] + each["forward"] for each in (trained, searched))
    return {
        "evaluated": evaluated,
        "tokens": {"training": dict(trained), "search": dict(searched)},
        "training": train_work / alone,
        "search": search_work / alone,
        "whole": (train_work + search_work) / alone,
    }


if __name__ == "__main__":
    main()
