"""Example data: real dialogues from an installable package."""

import importlib.util
from pathlib import Path

import yaml

from adaptare.core import MissingPackageError
from adaptare.search.training.data import Example

# Topics with short answers in plain English; excludes code and topics with only a handful of questions.
TOPICS = (
    *("ai", "computers", "conversations", "emotion", "history", "literature"),
    *("movies", "psychology", "science", "sports", "tech_support", "trivia"),
)


def chatterbot_examples() -> list[Example]:
    """Questions and answers in English from the package `chatterbot-corpus` (BSD licence), including repetitions.

    A dialogue of more than two turns is a list of questions, each followed by its answer.

    Raises:
        MissingPackageError: The package is not installed.
    """
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or not spec.submodule_search_locations:
        raise MissingPackageError(
            "the dialogues of chatterbot-corpus are not installed; install them with: pip install 'adaptare[demo]'"
        )
    folder = Path(spec.submodule_search_locations[0]) / "data" / "english"
    return [example for topic in TOPICS for example in _dialogues(folder / f"{topic}.yml")]


def _dialogues(file: Path) -> list[Example]:
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    return [
        Example(str(question).strip(), str(answer).strip())
        for turns in content["conversations"]
        if isinstance(turns, list)  # a few entries are malformed
        for question, answer in zip(turns[::2], turns[1::2], strict=False)
    ]
