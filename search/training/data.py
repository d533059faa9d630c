"""Training data: prompts and completions, and their split into parts that share no prompt."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Final, Literal

import numpy as np

from adaptare.core import InputError

HELD_OUT_SHARE: Final = 0.15


@dataclass(frozen=True, order=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, order=True)
class Example:
    """Training example: a prompt and its completion.

    Args:
        prompt: Text of the user's turn that is answered.
        completion: Answer to it.
        choices: All possible completions of a multiple-choice question, the right one among them; else none.
        history: Earlier turns of the same conversation.
    """

    prompt: str
    completion: str
    choices: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()

    @property
    def first_prompt(self) -> str:
        """First text of the user; examples that share it are never split."""
        return next((message.content for message in self.history if message.role == "user"), self.prompt)

    @property
    def answer(self) -> int:
        """Position of the completion among the choices."""
        return self.choices.index(self.completion)


@dataclass(frozen=True)
class Split:
    """Examples by use: training, validation (choice among sub-adapters), and one final test of the choice.

    Raises:
        InputError: Two parts share a prompt.
    """

    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    def __post_init__(self) -> None:
        prompts = {part.name: {example.first_prompt for example in getattr(self, part.name)} for part in fields(self)}
        for one, other in combinations(prompts, 2):
            if shared := sorted(prompts[one] & prompts[other]):
                raise InputError(
                    f"{len(shared)} of the {len(prompts[other])} prompts for {other} are prompts for {one} too, such "
                    f"as {shared[0][:80]!r}; remove them from one of the two"
                )


def split_examples(
    examples: Sequence[Example],
    *,
    seed: int,
    validation: float | Sequence[Example] = HELD_OUT_SHARE,
    test: float | Sequence[Example] = HELD_OUT_SHARE,
) -> Split:
    """Splits examples at random, after removing duplicates.

    Examples with the same first prompt go to the same part, so no evaluated prompt was seen in training.

    Args:
        examples: At least one first prompt for training, and one for each part that is drawn.
        seed: Equal seeds and examples, in any order, give equal splits.
        validation: Share of the first prompts for validation, or the examples themselves.
        test: Share of the first prompts for the test, or the examples themselves.

    Raises:
        InputError: A share is not between 0 and 1, too few prompts for all parts, or a given part shares a prompt with
            another.
    """
    shares = [part for part in (validation, test) if isinstance(part, float)]
    if not (all(share > 0 for share in shares) and sum(shares) < 1):
        raise InputError(f"shares of validation and test must be above 0 and sum to below 1, not {validation} + {test}")
    groups = _shuffled(examples, seed)
    sizes = [max(1, round(part * len(groups))) if isinstance(part, float) else 0 for part in (validation, test)]
    n_train = len(groups) - sum(sizes)
    if n_train < 1:
        raise InputError(
            f"{len(groups)} different prompts cannot be split into {1 + len(shares)} parts with shares "
            f"{' and '.join(map(str, shares))}; add examples"
        )
    drawn = groups[n_train : n_train + sizes[0]], groups[n_train + sizes[0] :]
    held_out = (
        own if isinstance(part, float) else _shuffled(part, seed)
        for part, own in zip((validation, test), drawn, strict=True)
    )
    return Split(*(tuple(example for group in part for example in group) for part in (groups[:n_train], *held_out)))


def _shuffled(examples: Sequence[Example], seed: int) -> list[list[Example]]:
    """Distinct examples by first prompt, in an order that depends on the seed alone."""
    by_prompt: dict[str, list[Example]] = {}
    for example in sorted(set(examples)):
        by_prompt.setdefault(example.first_prompt, []).append(example)
    groups = list(by_prompt.values())
    return [groups[index] for index in np.random.default_rng(seed).permutation(np.arange(len(groups)))]
