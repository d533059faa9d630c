"""The task of the recipes: grade-school word problems (GSM8K), and what a constant would score on it.

python benchmarks/recipe_tasks.py --data FOLDER [--model smollm2-135m] [--rows 300]

prints what a model that ignores every prompt would score on the test rows of GSM8K, and on those of the multiple-choice
data of earlier tables: ARC-Easy and boolq of LLM-Adapters, at most 96 tokens, with frequencies of each of the two.
"""

import argparse
import json
import re
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from recipe_latency import ends
from stock_process import conditions
from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.profiler import open_model
from adaptare.search import load_base
from adaptare.search.training import constant_losses
from adaptare.search.training.data import Example, split_examples
from adaptare.search.training.quality import paired_difference
from adaptare.search.training.token_examples import TokenExample, tokenize_examples

Rows: TypeAlias = Sequence[TokenExample]
Losses: TypeAlias = NDArray[np.float64]

# Files below the folder of the data: examples to train on and to validate with, and examples to test with.
TRAINING, TEST, TOKENS = "gsm8k/train.jsonl", "gsm8k/test.jsonl", 256
# Intermediate results in the answers of GSM8K, as in <<48/2=24>>.
CALCULATION = re.compile(r"<<[^<>]*>>")
CHOICES, CHOICE_TOKENS = ("ARC-Easy", "boolq"), 96


def read_examples(folder: Path, file: str) -> list[Example]:
    """Questions with their worked answers. Raises `InputError` if the file is missing."""
    if not (folder / file).exists():
        raise InputError(f"{str(folder / file)!r} is missing; --data names a folder with {TRAINING} and {TEST}")
    rows = map(json.loads, (folder / file).read_text(encoding="utf-8").splitlines())
    return [Example(row["question"].strip(), CALCULATION.sub("", row["answer"]).strip()) for row in rows]


def read_task(folder: Path, tokenizer: PreTrainedTokenizerBase, count: int, part: int = 0) -> tuple[Rows, Rows, Rows]:
    """Examples to train on and to validate with, and a part of `count` rows of the test file.

    Raises:
        InputError: A file is missing, or has no such part.
    """
    split = split_examples(read_examples(folder, TRAINING), seed=0)
    every = read_examples(folder, TEST)
    if not (test := every[part * count : (part + 1) * count]):
        raise InputError(f"each --seed has its own --rows of the {len(every)} in {TEST}; lower one of the two")
    train, validation, rows = (
        tokenize_examples(part, tokenizer, max_tokens=TOKENS) for part in (split.train, split.validation, test)
    )
    return train, validation, rows


def check_signal(plain: Losses, constant: Losses, rows: Rows) -> None:
    """Raises `InputError` unless a plain LoRA has a lower loss than the constant, by the interval of the difference."""
    tokens = np.array([row.completion_tokens for row in rows])
    found = paired_difference(plain, constant, tokens)
    if found.upper >= 0:
        raise InputError(
            "recipes are only compared where training helps, and here a plain LoRA is not better than frequencies of "
            f"tokens: {found.middle:+.3f} [{found.lower:+.3f}, {found.upper:+.3f}] nats per token; train for more "
            "--steps, or test with more --rows"
        )


def on_choices(folder: Path, tokenizer: PreTrainedTokenizerBase, count: int) -> tuple[Losses, Rows]:
    """Losses of the constant on the multiple-choice data of earlier tables, and the rows, split as there."""
    content = [
        row for task in CHOICES for row in json.loads((folder / task / "train.json").read_text(encoding="utf-8"))
    ]
    examples = [Example(f"{row['instruction']}\n{row['input']}".strip(), row["output"].strip()) for row in content]
    split = split_examples(examples, seed=0)
    train, test = (tokenize_examples(part, tokenizer, max_tokens=CHOICE_TOKENS) for part in (split.train, split.test))
    rows, losses = test[:count], np.zeros(len(test[:count]))
    for boolean in (False, True):
        known, own = (
            [("true/false" in tokenizer.decode(row.prompt)) == boolean for row in part] for part in (train, rows)
        )
        counted, judged = list(compress(train, known)), list(compress(rows, own))
        losses[own] = constant_losses(counted, judged, vocabulary=len(tokenizer))
    return losses, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=300)
    options = parser.parse_args()
    _, tokenizer = load_base(open_model(options.model).weights_folder())
    train, _, rows = read_task(options.data, tokenizer, options.rows)
    found = {
        "GSM8K": (constant_losses(train, rows, vocabulary=len(tokenizer)), rows),
        " and ".join(CHOICES): on_choices(options.data, tokenizer, options.rows),
    }
    constant = {}
    for name, (losses, judged) in found.items():
        tokens = np.array([row.completion_tokens for row in judged])
        constant[name] = {"rows": len(judged), "loss": ends(paired_difference(losses, 0 * losses, tokens))}
    print(json.dumps({**conditions(1), "model": options.model, "constant": constant}, indent=1))


if __name__ == "__main__":
    main()
