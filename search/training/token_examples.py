"""Tokenised examples and batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from adaptare.devices import InputError
from adaptare.search.training.data import Example, split_examples

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
    """Tokenises examples as in inference.

    Uses the tokenizer's chat template, if it has one; otherwise prompt, line break, completion, end of
    text. Prompt and completion are tokenised separately, as in generation.

    Args:
        examples: Examples to tokenise.
        tokenizer: Tokenizer of the base model.
        max_tokens: Longer examples are truncated, and dropped if none of the completion remains.

    Raises:
        InputError: No example remains.
    """
    if max_tokens < 2:
        raise InputError(f"max_tokens must be at least 2, not {max_tokens}")
    tokens = [_tokens(example, tokenizer) for example in examples]
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
    """Tokenised examples by use; see `Split`. `dropped` and `cut` of `TokenExamples` are totals of all parts."""

    train: tuple[TokenExample, ...]
    validation: tuple[TokenExample, ...]
    test: tuple[TokenExample, ...]
    dropped: int = 0
    cut: int = 0


def tokenize_split(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, seed: int, max_tokens: int = 64
) -> TokenSplit:
    """Splits examples into parts that share no prompt, and tokenises each.

    Raises:
        InputError: Too few examples for three parts, or no example of a part fits into `max_tokens`.
    """
    split = split_examples(examples, seed=seed)
    parts = [
        tokenize_examples(part, tokenizer, max_tokens=max_tokens)
        for part in (split.train, split.validation, split.test)
    ]
    train, validation, test = (part.examples for part in parts)
    dropped, cut = sum(part.dropped for part in parts), sum(part.cut for part in parts)
    return TokenSplit(train, validation, test, dropped, cut)


def pad_batch(examples: Sequence[TokenExample]) -> dict[str, torch.Tensor]:
    """`input_ids`, `attention_mask` and `labels`, each of shape (n, longest), padded at the end."""
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
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def _tokens(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    prompt, completion, special = f"{example.prompt}\n", f"{example.completion}{tokenizer.eos_token or ''}", True
    if tokenizer.chat_template:
        prompt, completion, special = *_chat(example, tokenizer), False
    return (
        list(tokenizer(prompt, add_special_tokens=special)["input_ids"]),
        list(tokenizer(completion, add_special_tokens=False)["input_ids"]),
    )


def _chat(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    asked: list[Mapping[str, str]] = [{"role": "user", "content": example.prompt}]
    answered = [*asked, {"role": "assistant", "content": example.completion}]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(answered, tokenize=False)
    if not whole.startswith(prompt):  # some templates format finished answers differently
        return prompt, f"{example.completion}{tokenizer.eos_token or ''}"
    return prompt, whole[len(prompt) :].rstrip()
