"""Tokenised examples and multiple-choice questions, with prompts and completions as in inference."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.search.training.data import Example, Split, split_examples


@dataclass(frozen=True)
class TokenExample:
    """Token ids of one example.

    Args:
        ids: Tokens of the prompt and of the completion.
        prompt_tokens: Number of tokens of the prompt, at least one.
        cut: True if the completion is truncated.
    """

    ids: tuple[int, ...]
    prompt_tokens: int
    cut: bool = field(default=False, repr=False, compare=False)  # trainings are identified by the `repr` of examples

    def __post_init__(self) -> None:
        if not 0 < self.prompt_tokens < len(self.ids):
            raise InputError(
                f"an example of {len(self.ids)} tokens needs 1 to {len(self.ids) - 1} of them as prompt, "
                f"not {self.prompt_tokens}"
            )

    @property
    def prompt(self) -> tuple[int, ...]:
        """Token ids before the completion."""
        return self.ids[: self.prompt_tokens]

    @property
    def completion(self) -> tuple[int, ...]:
        """Token ids in the loss."""
        return self.ids[self.prompt_tokens :]

    @property
    def completion_tokens(self) -> int:
        """Number of tokens in the loss."""
        return len(self.ids) - self.prompt_tokens


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

    @property
    def completed(self) -> list[TokenExample]:
        """The question with each choice."""
        return [TokenExample((*self.prompt, *choice), len(self.prompt)) for choice in self.choices]


def tokenize_examples(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, *, max_tokens: int = 64
) -> tuple[TokenExample, ...]:
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
        TokenExample(tuple(prompt + completion)[:max_tokens], len(prompt), len(prompt + completion) > max_tokens)
        for prompt, completion in tokens
        if 0 < len(prompt) < max_tokens
    )
    if not kept:
        shortest = min((len(prompt) for prompt, _ in tokens), default=0)
        raise InputError(
            f"none of {len(tokens)} examples has a completion within {max_tokens} tokens; the shortest prompt has "
            f"{shortest}: pass a larger max_tokens"
        )
    return kept


@dataclass(frozen=True)
class TokenSplit:
    """Tokenised examples by use, as in a `Split`.

    Args:
        dropped: Number of examples, of all parts, without room for any of their completion.
        cut: Number of examples, of all parts, whose completion is truncated.
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
    texts = (split.train, split.validation, split.test)
    train, validation, test = parts = [tokenize_examples(part, tokenizer, max_tokens=max_tokens) for part in texts]
    return TokenSplit(
        train,
        validation,
        test,
        dropped=sum(map(len, texts)) - sum(map(len, parts)),
        cut=sum(example.cut for part in parts for example in part),
        validation_questions=tokenize_questions(split.validation, tokenizer),
        test_questions=tokenize_questions(split.test, tokenizer),
        majority=most_frequent_answer(split.train),
    )


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


def token_ids(
    example: Example, tokenizer: PreTrainedTokenizerBase, *, completion: str | None = None
) -> tuple[list[int], list[int]]:
    """Token ids of the prompt, with all earlier turns, and of the completion, with the end of the turn.

    Uses the tokenizer's chat template, if it has one; otherwise every text is followed by a line break, and those of
    the assistant by the end of text instead. Prompt and completion are tokenised separately, as in generation.

    Args:
        example: Prompt, completion and earlier turns.
        tokenizer: Tokenizer of the base model.
        completion: Text to use in place of the example's own completion.

    Raises:
        InputError: The chat template refuses the turns, as some do with system messages.
    """
    answer = example.completion if completion is None else completion
    render = _chat if tokenizer.chat_template else _plain
    prompt, completed = render(example, answer, tokenizer)
    return (
        list(tokenizer(prompt, add_special_tokens=not tokenizer.chat_template)["input_ids"]),
        list(tokenizer(completed, add_special_tokens=False)["input_ids"]),
    )


def _plain(example: Example, answer: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    end = tokenizer.eos_token or ""
    after = {"system": "\n", "user": "\n", "assistant": end or "\n"}
    before = [message.content + after[message.role] for message in example.history]
    return f"{''.join(before)}{example.prompt}\n", f"{answer}{end}"


def _chat(example: Example, answer: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    from jinja2 import TemplateError

    asked: list[Mapping[str, str]] = [
        *({"role": message.role, "content": message.content} for message in example.history),
        {"role": "user", "content": example.prompt},
    ]
    answered = [*asked, {"role": "assistant", "content": answer}]
    try:
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(answered, tokenize=False)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in answered)
        raise InputError(
            f"the tokenizer's chat template refuses turns of {roles}: {error}; leave out what it does not take, or set "
            "another chat_template in the tokenizer_config.json of the model"
        ) from error
    if not whole.startswith(prompt):  # some templates format finished answers differently
        return prompt, f"{answer}{tokenizer.eos_token or ''}"
    return prompt, whole[len(prompt) :].rstrip()
