"""What identifies a program, and the one text of a JSON value."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adaptare.core.content_hash import canonical_json
from adaptare.devices import Feed, Program, ProgramFile, Work

FEEDS = tuple(Feed(name, "{}", Work(3, 1000, 2000)) for name in ("short", "long"))
PROGRAM = Program("good", "worker_programs:torch_linear", '{"width":8}', FEEDS)


def test_the_hash_of_a_program_ignores_its_name_and_expected_size() -> None:
    assert replace(PROGRAM, name="another name", weight_bytes=5).hash == PROGRAM.hash


def test_the_hash_of_a_program_ignores_where_its_files_lie() -> None:
    one, other = (replace(PROGRAM, files=(ProgramFile("a", "b" * 64, Path(folder, "a")),)) for folder in "xy")
    assert one.hash == other.hash


@pytest.mark.parametrize(
    "change",
    [
        {"source": "worker_programs:echo"},
        {"arguments": '{"width":9}'},
        {"feeds": FEEDS[::-1]},
        {"feeds": (replace(FEEDS[0], arguments='{"tokens":2}'), FEEDS[1])},
        {"files": (ProgramFile("a", "b" * 64, Path("a")),)},
        {"others_bytes": 1},
    ],
    ids=["source", "arguments", "order of feeds", "content of a feed", "files", "cold"],
)
def test_the_hash_of_a_program_changes_with_what_runs(change: dict[str, Any]) -> None:
    assert replace(PROGRAM, **change).hash != PROGRAM.hash


def test_canonical_json_is_compact_and_sorted() -> None:
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'


def test_canonical_json_refuses_what_json_cannot_hold() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))
