"""Validation of model configs, before any model is built from them."""

import json
import re
from collections.abc import Mapping
from typing import Any

from adaptare.core import InputError

MOST_LAYERS, WIDEST = 10_000, 10_000_000
# Field -> its maximum: far above any model, and far below values at which the names of linears would fill the memory.
LARGEST = {
    "num_hidden_layers": MOST_LAYERS,
    **dict.fromkeys(("hidden_size", "intermediate_size", "num_attention_heads", "head_dim", "vocab_size"), WIDEST),
    "num_key_value_heads": WIDEST,
    "max_position_embeddings": 2**40,
}
FIELD = re.compile(r"field '(\w+)'")


def check_sizes(config: Mapping[str, Any]) -> None:
    """Checks the sizes in the content of a config; any of them may be missing.

    Raises:
        InputError: A size is not an integer, below 1 or larger than in any model, or a value is NaN or infinite.
    """
    for name, largest in LARGEST.items():
        value = config.get(name)
        if value is not None and (type(value) is not int or not 1 <= value <= largest):
            raise InputError(f"{name} of a model must be a whole number from 1 to {largest:,}, not {value!r}")
    try:
        json.dumps(config, allow_nan=False, default=str)
    except ValueError as error:
        raise InputError("the config has NaN or infinite values; a model has none") from error


def check_heads(heads: int, kv_heads: int) -> None:
    """Raises `InputError` unless the number of key and value heads divides the number of query heads."""
    if heads % kv_heads:
        raise InputError(
            f"num_key_value_heads must divide num_attention_heads, so that every key head has equally many queries; "
            f"{kv_heads} does not divide {heads}"
        )


def reason_of(error: Exception, config: Mapping[str, Any]) -> str:
    """Reason that transformers rejects a config, in one line and without the wording of its validators."""
    if match := FIELD.search(str(error)):
        name = match.group(1)
        return f"{name} cannot be {config.get(name)!r}"
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip().removeprefix("ValueError: ")
