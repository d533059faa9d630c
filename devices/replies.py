"""Replies of an agent, which may come from a broken worker or link."""

import json
from typing import Any


def parsed_reply(text: str) -> dict[str, Any]:
    """A reply; empty if the text is not one, as the greeting of a login shell on the same pipe."""
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return reply if isinstance(reply, dict) else {}


# Words of the library -> explanation and advice; the first match counts.
KNOWN = (
    (
        ("is not a registered function/op", "No Op registered for", "Could not find an implementation for"),
        "this onnxruntime lacks an operator of the program; use a newer or more complete build, or another device",
    ),
    (
        ("Unsupported model IR version", "is till opset", "is under development and support for this is limited"),
        "this onnxruntime is too old for the program; install a newer one on the device",
    ),
)


def advised(text: str) -> str:
    """An error of a program, with advice if it is a refusal that is known."""
    for words, advice in KNOWN:
        if any(word in text for word in words):
            return f"{text}; {advice}"
    return text
