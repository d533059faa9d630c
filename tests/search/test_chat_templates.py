"""Chat templates in place of the tokenizer's."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError
from adaptare.search.training.chat_templates import ALPACA, set_chat_template
from adaptare.search.training.data import Example, Message
from adaptare.search.training.token_examples import token_ids

PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def texts(example: Example, tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    prompt, completion = token_ids(example, tokenizer)
    return tokenizer.decode(prompt), tokenizer.decode(completion)


def test_alpaca_writes_its_published_prompt(tokenizer: PreTrainedTokenizerBase) -> None:
    set_chat_template(tokenizer, ALPACA)
    prompt, completion = texts(Example("Add 1 and 2.", "3"), tokenizer)
    assert prompt == f"{PREAMBLE}\n\n### Instruction:\nAdd 1 and 2.\n\n### Response:\n"
    assert completion == f"3{tokenizer.eos_token}"


def test_alpaca_begins_with_a_system_message_and_goes_on_with_earlier_turns(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    set_chat_template(tokenizer, ALPACA)
    history = (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    prompt, _ = texts(Example("Bye", "Bye bye", history=history), tokenizer)
    end = tokenizer.eos_token
    turns = f"### Instruction:\nHi\n\n### Response:\nHello{end}\n\n### Instruction:\nBye\n\n### Response:\n"
    assert prompt == f"Be brief.\n\n{turns}"


def test_a_file_with_a_template_is_used_and_written_with_the_tokenizer(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}", encoding="utf-8")
    set_chat_template(tokenizer, str(file))
    assert texts(Example("A", "B"), tokenizer) == ("<user>A", "<assistant>B")
    tokenizer.save_pretrained(tmp_path / "saved")
    assert file.read_text(encoding="utf-8") in (tmp_path / "saved" / "chat_template.jinja").read_text(encoding="utf-8")


def test_a_missing_or_broken_template_is_an_error_of_the_input(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"'absent' cannot be read: No such file.* give alpaca, or a file"):
        set_chat_template(tokenizer, "absent")
    (tmp_path / "broken").write_text("{% for messages %}", encoding="utf-8")
    set_chat_template(tokenizer, str(tmp_path / "broken"))
    with pytest.raises(InputError, match="chat template refuses"):
        texts(Example("A", "B"), tokenizer)
    (tmp_path / "data.jsonl").write_text('{"prompt": "A", "completion": "B"}', encoding="utf-8")
    with pytest.raises(InputError, match="is no chat template, because it reads no messages"):
        set_chat_template(tokenizer, str(tmp_path / "data.jsonl"))
