"""Token ids of prompts and completions, as in inference."""

from collections.abc import Mapping

from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.search.training.data import Example


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
