import pytest
from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.search.training.data import Example, Message
from adaptare.search.training.passes import IGNORED, pad_batch
from adaptare.search.training.token_examples import TokenExample, tokenize_examples

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}</>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def spelled(tokenizer: PreTrainedTokenizerBase, example: TokenExample) -> tuple[str, str]:
    prompt, completion = example.ids[: example.prompt_tokens], example.ids[example.prompt_tokens :]
    return tokenizer.decode(prompt), tokenizer.decode(completion)


def test_without_a_template_a_line_break_parts_prompt_and_completion(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokenize_examples([Example("2 + 2?", "4")], tokenizer)
    assert spelled(tokenizer, tokens[0]) == ("2 + 2?\n", "4<end>")


def test_the_chat_template_is_used(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = CHAT
    tokens = tokenize_examples([Example("2 + 2?", "4")], tokenizer)
    assert spelled(tokenizer, tokens[0]) == ("<user>2 + 2?</>\n<assistant>", "4</>")


def test_a_template_that_rewrites_answers_gets_the_plain_completion(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = CHAT.replace("<assistant>", "<assistant><think>")
    tokens = tokenize_examples([Example("2 + 2?", "4")], tokenizer)
    assert spelled(tokenizer, tokens[0]) == ("<user>2 + 2?</>\n<assistant><think>", "4<end>")


CONVERSATION = Example(
    "And?", "7", history=(Message("system", "Brief."), Message("user", "2 + 2?"), Message("assistant", "4"))
)


def test_earlier_turns_are_in_the_prompt_of_the_template(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.chat_template = CHAT
    tokens = tokenize_examples([CONVERSATION], tokenizer, max_tokens=90)
    before = "<system>Brief.</>\n<user>2 + 2?</>\n<assistant>4</>\n<user>And?</>\n<assistant>"
    assert spelled(tokenizer, tokens[0]) == (before, "7</>")


def test_without_a_template_and_an_end_of_text_answers_end_with_the_line(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.eos_token = None
    tokens = tokenize_examples([CONVERSATION], tokenizer)
    assert spelled(tokenizer, tokens[0]) == ("Brief.\n2 + 2?\n4\nAnd?\n", "7")


def test_a_template_without_system_messages_says_so(tokenizer: PreTrainedTokenizerBase) -> None:
    refuse = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    tokenizer.chat_template = refuse + CHAT
    with pytest.raises(InputError, match="refuses turns of system, user, assistant, user, assistant: no system role"):
        tokenize_examples([CONVERSATION], tokenizer)


def test_long_examples_are_cut_and_those_without_completion_dropped(tokenizer: PreTrainedTokenizerBase) -> None:
    examples = [Example("abc", "defghij"), Example("abcdefg", "h"), Example("abcdefgh", "i")]
    tokens = tokenize_examples(examples, tokenizer, max_tokens=8)
    assert [spelled(tokenizer, example) for example in tokens] == [("abc\n", "defg")]
    assert (len(examples) - len(tokens), [example.cut for example in tokens]) == (2, [True])
    assert tokens[0].completion_tokens == 4


def test_nothing_left_says_how_long_the_shortest_prompt_is(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match=r"none of 1 examples.*the shortest prompt has 9: pass a larger max_tokens"):
        tokenize_examples([Example("abcdefgh", "i")], tokenizer, max_tokens=8)


def test_max_tokens_must_hold_a_prompt_and_a_completion(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(InputError, match="at least 2, not 1"):
        tokenize_examples([Example("a", "b")], tokenizer, max_tokens=1)


def test_loss_is_on_completion_tokens_only() -> None:
    batch = pad_batch([TokenExample((1, 2, 3, 4), 2), TokenExample((5, 6), 1)])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4], [5, 6, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED, 3, 4], [IGNORED, 6, IGNORED, IGNORED]]


@pytest.mark.parametrize("prompt_tokens", [0, 3])
def test_an_example_needs_a_prompt_and_a_completion(prompt_tokens: int) -> None:
    with pytest.raises(InputError, match=f"3 tokens needs 1 to 2 of them as prompt, not {prompt_tokens}"):
        TokenExample((1, 2, 3), prompt_tokens)
