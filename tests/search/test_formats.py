"""Rows of every format, from lines and arrays, and what is refused."""

import json
from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.search.training.data import Example, Message
from adaptare.search.training.example_files import examples_of_row, read_examples

COMMONSENSE = {
    "instruction": "Which is hot?\n\nAnswer1: ice Answer2: fire\n\nAnswer format: answer1/answer2",
    "input": "",
    "output": "the correct answer is answer2",
    "answer": "answer2",
}
ARC = {
    "id": "Mercury_1",
    "question": "Which is hot?",
    "choices": {"text": ["ice", "fire", "snow"], "label": ["A", "B", "C"]},
    "answerKey": "B",
}
LISTED = {"question": "Which is hot?", "choices": ["ice", "fire"], "answer": "fire"}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And 3 more?"},
    {"role": "assistant", "content": "7"},
]


def read(row: object) -> list[Example]:
    return examples_of_row(row, "data.json, row 3")


def refusal(row: object) -> str:
    with pytest.raises(InputError) as found:
        read(row)
    return str(found.value)


@pytest.mark.parametrize(
    ("row", "example"),
    [
        ({"prompt": " 2 + 2? ", "completion": "4"}, Example("2 + 2?", "4")),
        ({"question": "2 + 2?", "answer": "#### 4", "id": 7}, Example("2 + 2?", "#### 4")),
        ({"instruction": "Translate.", "input": "Hund", "output": "dog"}, Example("Translate.\nHund", "dog")),
        ({"instruction": "2 + 2?", "input": "", "output": "It is 4.", "answer": 4.0}, Example("2 + 2?", "It is 4.")),
        (ARC, Example("Which is hot?", "fire", ("ice", "fire", "snow"))),
        ({**ARC, "answerKey": "snow"}, Example("Which is hot?", "snow", ("ice", "fire", "snow"))),
        ({**LISTED, "answer": 0}, Example("Which is hot?", "ice", ("ice", "fire"))),
        ({**LISTED, "answer": " fire "}, Example("Which is hot?", "fire", ("ice", "fire"))),
        # A number that is a label is that label, and no position; otherwise a position, and no text.
        (
            {"question": "3 - 1?", "choices": ["4", "2", "24", "1"], "answer": 1},
            Example("3 - 1?", "2", ("4", "2", "24", "1")),
        ),
        (
            {"question": "3 - 2?", "choices": {"text": ["4", "2", "1"], "label": ["A", "B", "C"]}, "answer": 2},
            Example("3 - 2?", "1", ("4", "2", "1")),
        ),
        (
            {**ARC, "choices": {"text": ["ice", "fire", "snow"], "label": ["1", "2", "3"]}, "answerKey": 1},
            Example("Which is hot?", "ice", ("ice", "fire", "snow")),
        ),
    ],
)
def test_a_row_is_read_by_its_fields(row: object, example: Example) -> None:
    assert read(row) == [example]


def test_choices_of_the_commonsense_files_are_the_outputs_with_each_answer() -> None:
    (found,) = read(COMMONSENSE)
    assert found.prompt == COMMONSENSE["instruction"]
    assert found.choices == ("the correct answer is answer1", "the correct answer is answer2")
    assert found.answer == 1


def test_each_turn_of_the_assistant_is_an_example_with_the_turns_before_it() -> None:
    system, asked, answered = (Message(each["role"], each["content"]) for each in TURNS[:3])  # type: ignore[arg-type]
    assert read({"messages": TURNS}) == [
        Example("2 + 2?", "4", history=(system,)),
        Example("And 3 more?", "7", history=(system, asked, answered)),
    ]
    assert {example.first_prompt for example in read({"messages": TURNS})} == {"2 + 2?"}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({}, ["row 3: has the fields none; a row has exactly: prompt, completion; or instruction, output, [input]"]),
        ({"prompt": "a", "completion": "b", "sorce": "c"}, ["prompt, completion, sorce, of which unknown: sorce"]),
        ([1], ["row 3: must be an object, not list"]),
        ({"prompt": float("nan"), "completion": "b"}, ["'prompt' must be a text that is not empty, not nan"]),
        ({"instruction": "a", "input": [1], "output": "b"}, ["'input' must be a text"]),
        ({**COMMONSENSE, "answer": "answer3"}, ["the answer 'answer3' is not among the choices answer1, answer2"]),
        ({**COMMONSENSE, "output": "fire"}, ["'output' must contain the answer 'answer2', not 'fire'"]),
        ({**COMMONSENSE, "instruction": "Hot? Answer format: answer2"}, ["needs at least two choices, not 1"]),
        ({**LISTED, "choices": ["fire", "fire"]}, ["two choices are the same: 'fire'"]),
        ({**LISTED, "choices": "fire"}, ["choices must be a list, not 'fire'"]),
        ({**LISTED, "answer": "water"}, ["the answer 'water' is not among the choices ice, fire"]),
        ({**LISTED, "answer": 2}, ["the answer 2 is not among the choices"]),
        ({**LISTED, "answer": True}, ["the answer True is not among the choices"]),
        ({**ARC, "choices": {"text": ["ice", "fire"]}}, ["'choices' must have text and label, not text"]),
        ({**ARC, "choices": {"text": ["a", "b"], "label": ["A"]}}, ["'choices' has 2 texts and 1 labels"]),
        ({"messages": []}, ["'messages' must be a list of role and content that is not empty"]),
        ({"messages": TURNS[:4]}, ["'messages' ends with a turn of the user; the last one must be of the assistant"]),
        ({"messages": TURNS[2:]}, ["message 1: must be of the user, not of the assistant; turns"]),
        ({"messages": [*TURNS, TURNS[0]]}, ["message 6: must be of the user, not of the system"]),
        ({"messages": [{"role": "tool", "content": "a"}]}, ["role must be one of system, user, assistant, not 'tool'"]),
        ({"messages": [{"role": "user", "text": "a"}]}, ["message 1: must have role and content", "not role, text"]),
        ({"messages": [{"role": "user", "content": ""}]}, ["message 1: 'content' must be a text that is not empty"]),
    ],
)
def test_other_rows_are_refused_with_what_is_wrong(row: object, messages: list[str]) -> None:
    said = refusal(row)
    assert all(message in said for message in messages), said
    assert said.startswith("data.json, row 3")


def test_lines_and_arrays_of_the_same_rows_are_the_same(tmp_path: Path) -> None:
    rows = [COMMONSENSE, ARC, {"messages": TURNS}, {"prompt": "a", "completion": "b"}]
    lines, array = tmp_path / "data.json", tmp_path / "data.jsonl"  # the names mislead
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8-sig")
    array.write_text("\n " + json.dumps(rows, indent=4), encoding="utf-8")
    assert read_examples(lines) == read_examples(array)
    assert len(read_examples(array)) == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "the array is empty"),
        ('[{"prompt": "a", "completion": "b"},]', "not a JSON array"),
        ('[{"prompt": "a", "completion": "b"}, {"prompt": "a"}]', "data.json, row 2: has the fields prompt;"),
        ('{\n"prompt": "a"}', "line 1: not JSON .*one object per line, or one array of objects"),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "data.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_examples(tmp_path / "data.json")
