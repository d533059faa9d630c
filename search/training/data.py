"""Training data: prompts and completions, and their split into parts that share no prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adaptare.devices import InputError
from adaptare.devices.program import Json
from adaptare.devices.strict_json import parse_json


@dataclass(frozen=True, order=True)
class Example:
    """Training example: a prompt and its completion."""

    prompt: str
    completion: str


@dataclass(frozen=True)
class Split:
    """Examples by use: training, validation (choice among sub-adapters), and one final test of the choice."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


def read_examples(file: str | Path) -> list[Example]:
    """Examples from JSON lines with `prompt` and `completion`, or `instruction`, optionally `input`, and `output`.

    Empty lines are skipped.

    Raises:
        InputError: The file cannot be read or is empty; or a line, named by its number, is not such an object.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(f"training data {str(file)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"training data {str(file)!r} is not UTF-8: {error}; convert it first") from error
    examples = [_example(line, f"{file}, line {number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not examples:
        raise InputError(f"training data {str(file)!r} is empty; it needs one JSON object per line")
    return examples


def split_examples(examples: Sequence[Example], *, seed: int, validation: float = 0.15, test: float = 0.15) -> Split:
    """Splits examples at random, after removing duplicates.

    Examples with the same prompt go to the same part, so no evaluated prompt was seen in training.

    Args:
        examples: At least three different prompts.
        seed: Equal seeds and examples, in any order, give equal splits.
        validation: Share of the prompts for validation.
        test: Share of the prompts for the test.

    Raises:
        InputError: A share is not between 0 and 1, or too few prompts for three parts.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise InputError(f"shares of validation and test must be above 0 and sum to below 1, not {validation} + {test}")
    by_prompt: dict[str, list[Example]] = {}
    for example in sorted(set(examples)):
        by_prompt.setdefault(example.prompt, []).append(example)
    prompts = np.random.default_rng(seed).permutation(np.arange(len(by_prompt)))
    n_validation, n_test = (max(1, round(share * len(prompts))) for share in (validation, test))
    if n_validation + n_test >= len(prompts):
        raise InputError(
            f"{len(prompts)} different prompts cannot be split into three parts with shares {validation} and {test}; "
            "add examples"
        )
    groups = list(by_prompt.values())
    parts = np.split(prompts, [len(prompts) - n_validation - n_test, len(prompts) - n_test])
    return Split(*(tuple(example for index in part for example in groups[index]) for part in parts))


def _example(line: str, where: str) -> Example:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise InputError(f"{where}: not JSON ({error}); write one object per line") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be an object, not {type(row).__name__}")
    if "instruction" in row and "prompt" not in row:
        asked = _text(row, "instruction", where)
        more = _text(row, "input", where) if row.get("input") else ""
        return Example(f"{asked}\n{more}" if more else asked, _text(row, "output", where))
    return Example(_text(row, "prompt", where), _text(row, "completion", where))


def _text(row: Mapping[str, Json], field: str, where: str) -> str:
    if field not in row:
        raise InputError(
            f"{where}: no field {field!r}; a line needs prompt and completion, or instruction and output; "
            f"this one has {', '.join(row) or 'nothing'}"
        )
    value = row[field]
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {field!r} must be a text that is not empty, not {value!r}")
    return value.strip()
