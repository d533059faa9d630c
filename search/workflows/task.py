"""Task of a super-adapter, stored with it so that a search uses the same held-out examples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from adaptare.devices import InputError
from adaptare.devices.versioned_json import read_versioned, write_versioned
from adaptare.profiler import Quantisation
from adaptare.profiler.models.model_source import published_name
from adaptare.search import chatterbot_examples, read_examples, tokenize_split
from adaptare.search.recipes.recipe import DEFAULT_RECIPE
from adaptare.search.training.data import Example
from adaptare.search.training.token_examples import TokenSplit

_FILE = "task.json"
SCHEMA = 1


@dataclass(frozen=True)
class Task:
    """Base model and the examples it is adapted to.

    Args:
        model: Folder with its weights.
        model_name: Name given by the user.
        data: JSON lines; `None` for the dialogues of the package `chatterbot-corpus`.
        seed: Seed of the split into training, validation and test.
        max_tokens: Longer examples are truncated.
        held_out: Maximum number of examples for validation, and as many for the test.
        quantisation: Quantisation of the base that adapters are trained and evaluated on.
        recipe: Name of the recipe of the super-adapter.
    """

    model: str
    model_name: str
    data: str | None
    seed: int
    max_tokens: int
    held_out: int
    quantisation: Quantisation = "none"
    recipe: str = DEFAULT_RECIPE

    @property
    def base_name(self) -> str | None:
        """See `published_name`."""
        return published_name(self.model_name, self.model)


def texts_of(task: Task) -> Sequence[Example]:
    """Prompts and completions of a task. Raises `InputError` if they cannot be read."""
    return read_examples(task.data) if task.data else chatterbot_examples()


def examples_of(task: Task, found: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> TokenSplit:
    """Splits and tokenises; the same task gives the same examples."""
    split = tokenize_split(found, tokenizer, seed=task.seed, max_tokens=task.max_tokens)
    held_out = {part: getattr(split, part)[: task.held_out] for part in ("validation", "test")}
    return replace(split, **held_out)


def save_task(task: Task, folder: Path) -> None:
    """Writes the task into the folder of its super-adapter."""
    write_versioned(folder / _FILE, asdict(task), schema=SCHEMA)


def load_task(folder: Path) -> Task:
    """Reads the task of a folder. Raises `InputError` if the folder was not written by `adaptare train`."""
    otherwise = f"{str(folder)!r} holds no trained super-adapter; make one with: adaptare train"
    try:
        return Task(**read_versioned(folder / _FILE, schema=SCHEMA, otherwise=otherwise))
    except TypeError as error:
        raise InputError(otherwise) from error


def check_unclaimed(task: Task, folder: Path) -> None:
    """Raises `InputError` if the folder belongs to another task; called before any expensive step."""
    if not (folder / _FILE).exists():
        return
    ours, theirs = asdict(task), asdict(load_task(folder))
    if others := [name for name, value in ours.items() if theirs[name] != value]:
        was = ", ".join(f"{name} {theirs[name]!r}, not {ours[name]!r}" for name in others)
        raise InputError(f"{str(folder)!r} is of another task: {was}; use another folder, or remove it")
