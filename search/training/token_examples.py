"""Tokenised examples and batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.search.training.data import Example, Split, split_examples
from adaptare.search.training.questions import TokenQuestion, most_frequent_answer, tokenize_questions
from adaptare.search.training.rendering import token_ids

IGNORED = -100  # label that transformers excludes from the loss


@dataclass(frozen=True)
class TokenExample:
    """Token ids of one example; the completion follows the first `prompt_tokens`, at least one, of them."""

    ids: tuple[int, ...]
    prompt_tokens: int

    def __post_init__(self) -> None:
        if not 0 < self.prompt_tokens < len(self.ids):
            raise InputError(
                f"an example of {len(self.ids)} tokens needs 1 to {len(self.ids) - 1} of them as prompt, "
                f"not {self.prompt_tokens}"
            )

    @property
    def completion_tokens(self) -> int:
        """Number of tokens in the loss."""
        return len(self.ids) - self.prompt_tokens


@dataclass(frozen=True)
class TokenExamples:
    """Tokenised examples.

    Args:
        examples: Examples with at least a part of their completion.
        dropped: Number of examples dropped because none of their completion fitted.
        cut: Number of the rest whose completion was truncated.
    """

    examples: tuple[TokenExample, ...]
    dropped: int
    cut: int


def tokenize_examples(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int = 64
) -> TokenExamples:
    """Tokenises examples as in inference; see `token_ids`.

    Args:
        examples: Examples to tokenise.
        tokenizer: Tokenizer of the base model.
        max_tokens: Longer examples are truncated, and dropped if none of the completion remains.

    Raises:
        InputError: No example remains.
    """
    if max_tokens < 2:
        raise InputError(f"max_tokens must be at least 2, not {max_tokens}")
    tokens = [token_ids(example, tokenizer) for example in examples]
    kept = tuple(
        TokenExample(tuple(prompt + completion)[:max_tokens], len(prompt))
        for prompt, completion in tokens
        if 0 < len(prompt) < max_tokens
    )
    if not kept:
        shortest = min((len(prompt) for prompt, _ in tokens), default=0)
        raise InputError(
            f"none of {len(tokens)} examples has a completion within {max_tokens} tokens; the shortest prompt has "
            f"{shortest}: pass a larger max_tokens"
        )
    long = sum(len(prompt) < max_tokens < len(prompt) + len(completion) for prompt, completion in tokens)
    return TokenExamples(kept, dropped=len(tokens) - len(kept), cut=long)


@dataclass(frozen=True)
class TokenSplit:
    """Tokenised examples by use; see `Split`. `dropped` and `cut` of `TokenExamples` are totals of all parts.

    Args:
        validation_questions: Multiple-choice questions among the examples for validation.
        test_questions: The same of the test.
        majority: Position of the right choice that is the most frequent in training.
    """

    train: tuple[TokenExample, ...]
    validation: tuple[TokenExample, ...]
    test: tuple[TokenExample, ...]
    dropped: int = 0
    cut: int = 0
    validation_questions: tuple[TokenQuestion, ...] = ()
    test_questions: tuple[TokenQuestion, ...] = ()
    majority: int = 0


def tokenize_split(
    examples: Sequence[Example] | Split, tokenizer: PreTrainedTokenizerBase, *, seed: int, max_tokens: int = 64
) -> TokenSplit:
    """Splits examples into parts that share no prompt, unless they are split already, and tokenises each.

    Raises:
        InputError: Too few examples for three parts, or no example of a part fits into `max_tokens`.
    """
    split = examples if isinstance(examples, Split) else split_examples(examples, seed=seed)
    parts = [
        tokenize_examples(part, tokenizer, max_tokens=max_tokens)
        for part in (split.train, split.validation, split.test)
    ]
    train, validation, test = (part.examples for part in parts)
    return TokenSplit(
        train,
        validation,
        test,
        dropped=sum(part.dropped for part in parts),
        cut=sum(part.cut for part in parts),
        validation_questions=tokenize_questions(split.validation, tokenizer),
        test_questions=tokenize_questions(split.test, tokenizer),
        majority=most_frequent_answer(split.train),
    )


def pad_batch(examples: Sequence[TokenExample], device: torch.device | str | None = None) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels` on a device, each of shape (n, longest), padded at the end."""
    longest = max(len(example.ids) for example in examples)
    shape = (len(examples), longest)
    # The padding value has no effect: no earlier position attends to it, and the loss ignores it.
    ids, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, IGNORED)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.ids)
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
        labels[row, example.prompt_tokens : len(tokens)] = tokens[example.prompt_tokens :]
    batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return {name: tensor.to(device) for name, tensor in batch.items()} if device else batch
