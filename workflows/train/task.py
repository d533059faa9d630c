"""Task of a super-adapter, stored with it so that a search uses the same held-out examples."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.codec import from_json, to_json
from adaptare.core.quantisation import check_quantisation
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.profiler import Quantisation
from adaptare.search import chatterbot_examples, read_examples, tokenize_split
from adaptare.search.recipes import DEFAULT_RECIPE
from adaptare.search.training import (
    ALPACA,
    HELD_OUT_SHARE,
    Scoring,
    Split,
    TokenSplit,
    check_free,
    set_chat_template,
    split_examples,
)

FILE: Final = "task.json"
SCHEMA: Final = 2  # schema 1 had the fields of the data among those of the task


@dataclass(frozen=True)
class TrainingData:
    """Examples that a base model is adapted to.

    Args:
        seed: Seed of the split into training, validation and test.
        file: File of examples; `None` for the dialogues of the package `chatterbot-corpus`.
        validation: File of the examples for validation; `None` to draw them from `file`.
        test: The same for the test.
        max_tokens: Longer examples are truncated.
        held_out: Maximum number of examples for validation, and as many for the test.
        chat_template: Chat template in place of the tokenizer's: `alpaca`, or a file; `None` for its own.
        scoring: Score by which a choice of a question is the answer, see `Answers`.

    Raises:
        InputError: A number is out of range.
    """

    seed: int
    file: Path | None = None
    validation: Path | None = None
    test: Path | None = None
    max_tokens: int = 64
    held_out: int = 48
    chat_template: str | None = None
    scoring: Scoring = "sum"

    def __post_init__(self) -> None:
        for name in ("max_tokens", "held_out"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}", parameter=name)

    def resolved(self) -> "TrainingData":
        """The same files by their absolute paths."""
        files = {name: getattr(self, name) for name in ("file", "validation", "test")}
        template = self.chat_template
        if template is not None and template != ALPACA:
            template = str(Path(template).resolve())
        resolved = {name: file.resolve() for name, file in files.items() if file}
        return replace(self, **resolved, chat_template=template)

    def texts(self) -> Split:
        """Prompts and completions by use. Raises `InputError` if they cannot be read, or parts share a prompt."""
        return split_examples(
            read_examples(self.file) if self.file else chatterbot_examples(),
            seed=self.seed,
            validation=read_examples(self.validation) if self.validation else HELD_OUT_SHARE,
            test=read_examples(self.test) if self.test else HELD_OUT_SHARE,
        )

    def tokens(self, texts: Split, tokenizer: PreTrainedTokenizerBase) -> TokenSplit:
        """The texts as tokens, with at most `held_out` examples in each held-out part.

        Raises:
            InputError: The chat template cannot be read, or refuses the turns, or no example fits into `max_tokens`.
        """
        if self.chat_template is not None:
            set_chat_template(tokenizer, self.chat_template)
        tokens = tokenize_split(texts, tokenizer, seed=self.seed, max_tokens=self.max_tokens)
        parts = ("validation", "test", "validation_questions", "test_questions")
        return replace(tokens, **{part: getattr(tokens, part)[: self.held_out] for part in parts})


@dataclass(frozen=True)
class Task:
    """Base model and the examples it is adapted to.

    Args:
        model: Folder with its weights.
        model_name: Name given by the user.
        data: Examples, by absolute paths.
        quantisation: Quantisation of the base that adapters are trained and evaluated on.
        recipe: Name of the recipe of the super-adapter.
        sparsity: Share of each row of the base that the recipe sets to zero; `None` for its own.

    Raises:
        InputError: There is no such quantisation.
    """

    model: Path
    model_name: str
    data: TrainingData
    quantisation: Quantisation = "none"
    recipe: str = DEFAULT_RECIPE
    sparsity: float | None = None

    def __post_init__(self) -> None:
        check_quantisation(self.quantisation)


def save_task(task: Task, folder: Path) -> None:
    """Writes the task into the folder of its super-adapter."""
    write_versioned(folder / FILE, to_json(task), schema=SCHEMA)


def load_task(folder: Path) -> Task:
    """Reads the task of a folder. Raises `InputError` if the folder was not written by a training."""
    otherwise = f"{str(folder)!r} holds no trained super-adapter; name the folder of a training"
    content = read_versioned(folder / FILE, schema=SCHEMA, otherwise=otherwise)
    if "seed" in content:  # schema 1
        data = {field.name: content.pop(field.name) for field in fields(TrainingData) if field.name in content}
        content["data"] = {**data, "file": content.pop("data", None)}
    try:
        return from_json(Task, content)
    except InputError as error:
        raise InputError(f"{otherwise}; {error}") from error


def check_unclaimed(task: Task, folder: Path) -> None:
    """Raises `InputError` if the folder belongs to another task or program; called before any expensive step."""
    if not (folder / FILE).exists():
        check_free(folder)
        return
    ours, theirs = _flat(task), _flat(load_task(folder))
    # The weights do not depend on how answers are scored.
    if others := [name for name, value in ours.items() if name != "scoring" and theirs[name] != value]:
        was = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in others)
        raise InputError(f"{str(folder)!r} is of another task: {was}; use another folder, or remove it")


def _flat(task: Task) -> dict[str, Any]:
    content: dict[str, Any] = to_json(task)
    data = content.pop("data")
    return {**content, **data}
