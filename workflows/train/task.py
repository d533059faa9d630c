"""Task of a super-adapter, stored with it so that a search uses the same held-out examples."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.core.versioned_json import read_versioned, write_versioned
from adaptare.profiler import Quantisation
from adaptare.search import chatterbot_examples, read_examples, tokenize_split
from adaptare.search.recipes.recipe import DEFAULT_RECIPE
from adaptare.search.training.answers import Scoring
from adaptare.search.training.data import HELD_OUT_SHARE, Split, split_examples
from adaptare.search.training.token_examples import TokenSplit

FILE = "task.json"
SCHEMA = 1


@dataclass(frozen=True)
class Task:
    """Base model and the examples it is adapted to.

    Args:
        model: Folder with its weights.
        model_name: Name given by the user.
        data: File of examples; `None` for the dialogues of the package `chatterbot-corpus`.
        seed: Seed of the split into training, validation and test.
        max_tokens: Longer examples are truncated.
        held_out: Maximum number of examples for validation, and as many for the test.
        quantisation: Quantisation of the base that adapters are trained and evaluated on.
        recipe: Name of the recipe of the super-adapter.
        validation: File of the examples for validation; `None` to draw them from `data`.
        test: The same for the test.
        scoring: Score by which a choice of a question is the answer, see `Answers`.
    """

    model: str
    model_name: str
    data: str | None
    seed: int
    max_tokens: int
    held_out: int
    quantisation: Quantisation = "none"
    recipe: str = DEFAULT_RECIPE
    validation: str | None = None
    test: str | None = None
    scoring: Scoring = "sum"


def texts_of(task: Task) -> Split:
    """Prompts and completions of a task by use. Raises `InputError` if they cannot be read, or parts share a prompt."""
    return split_examples(
        read_examples(task.data) if task.data else chatterbot_examples(),
        seed=task.seed,
        validation=read_examples(task.validation) if task.validation else HELD_OUT_SHARE,
        test=read_examples(task.test) if task.test else HELD_OUT_SHARE,
    )


def examples_of(task: Task, split: Split, tokenizer: PreTrainedTokenizerBase) -> TokenSplit:
    """Tokenises; the same task gives the same examples."""
    tokens = tokenize_split(split, tokenizer, seed=task.seed, max_tokens=task.max_tokens)
    parts = ("validation", "test", "validation_questions", "test_questions")
    return replace(tokens, **{part: getattr(tokens, part)[: task.held_out] for part in parts})


def save_task(task: Task, folder: Path) -> None:
    """Writes the task into the folder of its super-adapter."""
    write_versioned(folder / FILE, asdict(task), schema=SCHEMA)


def load_task(folder: Path) -> Task:
    """Reads the task of a folder. Raises `InputError` if the folder was not written by `adaptare train`."""
    otherwise = f"{str(folder)!r} holds no trained super-adapter; make one with: adaptare train"
    try:
        return Task(**read_versioned(folder / FILE, schema=SCHEMA, otherwise=otherwise))
    except TypeError as error:
        raise InputError(otherwise) from error


def check_unclaimed(task: Task, folder: Path) -> None:
    """Raises `InputError` if the folder belongs to another task; called before any expensive step."""
    if not (folder / FILE).exists():
        return
    ours, theirs = asdict(task), asdict(load_task(folder))
    # The weights do not depend on how answers are scored.
    if others := [name for name, value in ours.items() if name != "scoring" and theirs[name] != value]:
        was = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in others)
        raise InputError(f"{str(folder)!r} is of another task: {was}; use another folder, or remove it")
