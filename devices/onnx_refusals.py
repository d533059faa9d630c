"""Advice for errors of ONNX Runtime, which name the missing feature but no remedy."""

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
