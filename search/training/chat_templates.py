"""Chat templates that training sets in a tokenizer in place of its own."""

from pathlib import Path
from typing import Final

from transformers import PreTrainedTokenizerBase

from adaptare.core import InputError

ALPACA: Final = "alpaca"
# The prompt of Stanford Alpaca without an input, which LLM-Adapters, LoNAS and Shears train with. A system message
# stands in place of its first sentences, and further turns follow as further instructions.
_ALPACA: Final = (
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
    "Below is an instruction that describes a task. Write a response that appropriately completes the request."
    "{% endif %}{{ '\\n\\n' }}"  # a line break right after a tag would be removed
    "{% for message in messages %}"
    "{% if message.role == 'user' %}### Instruction:\n{{ message.content }}\n\n### Response:\n"
    "{% elif message.role == 'assistant' %}{{ message.content }}{{ eos_token }}\n\n"
    "{% endif %}{% endfor %}"
)


def set_chat_template(tokenizer: PreTrainedTokenizerBase, template: str) -> None:
    """Sets a chat template, which exports then write with the tokenizer.

    Args:
        tokenizer: Changed in place.
        template: `alpaca`, or a file with a Jinja template as transformers' `chat_template.jinja`.

    Raises:
        InputError: The file cannot be read.
    """
    if template == ALPACA:
        starts = tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = "{{ bos_token }}" * starts + _ALPACA
        return
    try:
        text = Path(template).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"the chat template {template!r} cannot be read: {reason}; give {ALPACA}, or a file with a Jinja template",
            parameter="chat_template",
        ) from error
    if "messages" not in text:
        raise InputError(
            f"{template!r} is no chat template, because it reads no messages; give {ALPACA}, or a file with a Jinja "
            "template",
            parameter="chat_template",
        )
    tokenizer.chat_template = text
