"""Tokenised multiple-choice questions."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from adaptare.search.training.data import Example
from adaptare.search.training.rendering import token_ids


@dataclass(frozen=True)
class TokenQuestion:
    """Token ids of a question and its choices.

    Args:
        prompt: Token ids before every choice.
        choices: Token ids of each choice as a completion, with the end of the turn.
        characters: Length of the text of each choice.
        answer: Position of the right choice.
    """

    prompt: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    characters: tuple[int, ...]
    answer: int


def tokenize_questions(examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase) -> tuple[TokenQuestion, ...]:
    """Tokenises the examples that have choices, without truncation."""
    return tuple(_question(example, tokenizer) for example in examples if example.choices)


def most_frequent_answer(examples: Sequence[Example]) -> int:
    """Position of the right choice that is the most frequent, the first of equals; 0 without questions."""
    counts = Counter(example.answer for example in examples if example.choices)
    return min(counts, key=lambda position: (-counts[position], position), default=0)


def _question(example: Example, tokenizer: PreTrainedTokenizerBase) -> TokenQuestion:
    rendered = [token_ids(example, tokenizer, completion=choice) for choice in example.choices]
    return TokenQuestion(
        prompt=tuple(rendered[0][0]),
        choices=tuple(tuple(completion) for _, completion in rendered),
        characters=tuple(map(len, example.choices)),
        answer=example.answer,
    )
