"""Files of examples, JSON lines or one JSON array: a row becomes examples by the fields it has."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from adaptare.core import InputError
from adaptare.core.content_hash import Json
from adaptare.core.strict_json import parse_json
from adaptare.search.training.data import Example, Message

Row = Mapping[str, Any]
ROLES: Final = get_args(get_type_hints(Message)["role"])
IGNORED_FIELDS: Final = frozenset({"id"})
# The last line of an instruction in the commonsense files of LLM-Adapters (Hu et al. 2023).
_ANSWER_FORMAT = re.compile(r"Answer format:\s*(\S+)\s*$")


def read_examples(file: str | Path) -> list[Example]:
    """Examples from JSON lines or a JSON array; the content decides, not the name of the file.

    Rows have one of the sets of fields in `FORMATS`. Empty lines are skipped.

    Raises:
        InputError: The file cannot be read or is empty; or a row, named by its number, is in none of the formats.
    """
    try:
        text = Path(file).read_text(encoding="utf-8-sig")  # Windows writes a byte order mark
    except OSError as error:
        raise InputError(f"training data {str(file)!r} cannot be read: {error.strerror}; check the path") from error
    except UnicodeDecodeError as error:
        raise InputError(f"training data {str(file)!r} is not UTF-8: {error}; convert it first") from error
    if not text.strip():
        raise InputError(f"training data {str(file)!r} is empty; it needs JSON lines or a JSON array")
    rows = _array(text, file) if text.lstrip().startswith("[") else _lines(text, file)
    return [example for where, row in rows for example in examples_of_row(row, where)]


def examples_of_row(row: object, where: str) -> list[Example]:
    """Examples of a row; a conversation gives one for each turn of the assistant.

    Args:
        row: Parsed JSON of the row.
        where: File and number of the row, for messages.

    Raises:
        InputError: The row is no object, has other fields than one of the formats, or a wrong value in one.
    """
    if not isinstance(row, dict):
        raise InputError(
            f"{where}: must be an object, not {type(row).__name__}; for example with the fields prompt and completion"
        )
    fields = set(row) - IGNORED_FIELDS
    read = next((read for needed, more, read in FORMATS if {*needed} <= fields <= {*needed, *more}), None)
    if read is None:
        accepted = "; or ".join(", ".join([*needed, *(f"[{name}]" for name in more)]) for needed, more, _ in FORMATS)
        known = {name for needed, more, _ in FORMATS for name in (*needed, *more)}
        unknown = ", ".join(name for name in row if name in fields - known)
        raise InputError(
            f"{where}: has the fields {', '.join(row) or 'none'}{f', of which unknown: {unknown}' if unknown else ''}; "
            f"a row has exactly: {accepted}"
        )
    return read(row, where)


def _array(text: str, file: str | Path) -> Iterator[tuple[str, Json]]:
    try:
        rows = parse_json(text)
    except ValueError as error:
        raise InputError(
            f"{file}: not a JSON array ({error}); write one array of objects, or one object per line"
        ) from error
    if not rows:
        raise InputError(f"{file}: the array is empty; it needs at least one object")
    for number, row in enumerate(rows, start=1):
        yield f"{file}, row {number}", row


def _lines(text: str, file: str | Path) -> Iterator[tuple[str, Json]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield f"{file}, line {number}", parse_json(line)
        except ValueError as error:
            raise InputError(
                f"{file}, line {number}: not JSON ({error}); write one object per line, or one array of objects"
            ) from error


def _pair(row: Row, where: str) -> list[Example]:
    prompt, completion = ("prompt", "completion") if "prompt" in row else ("question", "answer")
    return [Example(_text(row, prompt, where), _text(row, completion, where))]


def _instruction(row: Row, where: str) -> list[Example]:
    asked = _text(row, "instruction", where)
    more = _text(row, "input", where) if row.get("input") else ""
    output = _text(row, "output", where)
    listed = _ANSWER_FORMAT.search(asked) if "answer" in row else None
    if listed is None:
        choices: tuple[str, ...] = ()
    else:
        answers, answer = listed[1].split("/"), _text(row, "answer", where)
        _position(answer, [answers], where)
        before, separator, after = output.rpartition(answer)
        if not separator:
            raise InputError(f"{where}: 'output' must contain the answer {answer!r}, not {output!r}")
        choices = tuple(f"{before}{choice}{after}" for choice in answers)
    return [Example(f"{asked}\n{more}" if more else asked, output, choices)]


def _choices(row: Row, where: str) -> list[Example]:
    field = "answerKey" if "answerKey" in row else "answer"
    choices, labels = row["choices"], None
    if isinstance(choices, dict):
        if set(choices) != {"text", "label"}:
            raise InputError(f"{where}: 'choices' must have text and label, not {', '.join(choices) or 'nothing'}")
        choices, labels = choices["text"], _texts(choices["label"], "label of choices", where)
    texts = _texts(choices, "choices", where)
    if labels is not None and len(labels) != len(texts):
        raise InputError(f"{where}: 'choices' has {len(texts)} texts and {len(labels)} labels; give one label per text")
    position = _position(row[field], [labels, texts] if labels else [texts], where)
    return [Example(_text(row, "question", where), texts[position], tuple(texts))]


def _messages(row: Row, where: str) -> list[Example]:
    listed = row["messages"]
    if not isinstance(listed, list) or not listed:
        raise InputError(f"{where}: 'messages' must be a list of role and content that is not empty, not {listed!r}")
    turns = [_message(message, f"{where}, message {number}") for number, message in enumerate(listed, start=1)]
    first = 1 if turns[0].role == "system" else 0
    for number, turn in enumerate(turns[first:]):
        expected = ("user", "assistant")[number % 2]
        if turn.role != expected:
            raise InputError(
                f"{where}, message {first + number + 1}: must be of the {expected}, not of the {turn.role}; turns of "
                "user and assistant alternate, after one system message at most"
            )
    if turns[-1].role != "assistant":
        raise InputError(
            f"{where}: 'messages' ends with a turn of the {turns[-1].role}; the last one must be of the assistant, "
            "whose turns are trained"
        )
    return [
        Example(turns[asked].content, turns[asked + 1].content, history=tuple(turns[:asked]))
        for asked in range(first, len(turns), 2)
    ]


def _message(message: object, where: str) -> Message:
    if not isinstance(message, dict) or set(message) != {"role", "content"}:
        has = ", ".join(message) if isinstance(message, dict) else repr(message)
        raise InputError(f"{where}: must have role and content and nothing else, not {has or 'nothing'}")
    if message["role"] not in ROLES:
        raise InputError(f"{where}: role must be one of {', '.join(ROLES)}, not {message['role']!r}")
    return Message(message["role"], _text(message, "content", where))


def _position(answer: object, named: Sequence[Sequence[str]], where: str) -> int:
    """Position of an answer: by a name in one of the lists, of which texts are the last, or a number counted from 0."""
    names = named[0]
    if len(names) < 2:
        raise InputError(f"{where}: a question needs at least two choices, not {len(names)}; add others")
    if doubled := [name for labels in named for name in labels if labels.count(name) > 1]:
        raise InputError(f"{where}: two choices are the same: {doubled[0]!r}; remove one")
    number = answer if isinstance(answer, int) and not isinstance(answer, bool) else None
    spelled = answer.strip() if isinstance(answer, str) else str(answer)
    for labels in named if number is None else named[:-1]:  # 2 is a label or a position, and not the text "2"
        if spelled in labels and not isinstance(answer, bool):
            return labels.index(spelled)
    if number is not None and 0 <= number < len(names):
        return number
    raise InputError(f"{where}: the answer {answer!r} is not among the choices {', '.join(names)}")


def _texts(values: object, name: str, where: str) -> list[str]:
    if not isinstance(values, list):
        raise InputError(f"{where}: {name} must be a list, not {values!r}")
    return [_checked(value, name, where) for value in values]


def _text(row: Row, field: str, where: str) -> str:
    return _checked(row[field], repr(field), where)


def _checked(value: object, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {name} must be a text that is not empty, not {value!r}")
    return value.strip()


# Fields of a row, fields that it may have too, and the function that makes examples of it.
FORMATS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...], Callable[[Row, str], list[Example]]], ...]] = (
    (("prompt", "completion"), (), _pair),
    (("instruction", "output"), ("input", "answer"), _instruction),
    (("messages",), (), _messages),
    (("question", "answer"), (), _pair),
    (("question", "choices", "answerKey"), (), _choices),
    (("question", "choices", "answer"), (), _choices),
)
