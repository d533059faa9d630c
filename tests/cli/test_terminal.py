"""The terminal: narrow tables, colours, completion, examples in help pages and suggestions for mistyped names."""

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from adaptare.app import app
from adaptare.console import Console
from adaptare.core.table import Column, Table
from adaptare.tables import drawn

HEAVY = ("numpy", "scipy", "sklearn", "torch", "transformers", "sqlalchemy", "rich.console", "asyncio")
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[tuple[str, ...], Any] = {
    (name, *inner): found
    for name, command in GROUP.commands.items()
    for inner, found in (
        {(sub,): each for sub, each in getattr(command, "commands", {}).items()} or {(): command}
    ).items()
}
GROUPS: list[tuple[str, ...]] = [(), ("devices",), ("dataset",)]


def wide(columns: int, *, rank: int = 0) -> Table[str]:
    name = Column[str]("adapter", lambda row: f"model.layers.11.self_attn.q_proj {row}, static")
    numbers = [Column[str](f"{n}: overhead", lambda _: "+123.4% [-100.0%, +123.4%]", rank) for n in range(columns)]
    return Table("Overhead of adapters", [name, *numbers], ["r8", "r64"])


@pytest.mark.parametrize("width", [80, 60])
def test_a_table_that_is_too_wide_is_printed_in_parts_that_lose_nothing(
    width: int, check_width: Callable[..., None]
) -> None:
    table = wide(8)
    check_width(table, width)
    headings = [column.header for part in drawn(table, width) for column in part.columns]
    assert set(headings) == {column.heading for column in table.columns}
    assert [part.title for part in drawn(table, width)][:2] == [table.title, None]


def test_columns_of_a_higher_rank_are_left_out_before_a_table_is_parted() -> None:
    table = wide(8, rank=1)
    (part,) = drawn(table, 80)
    assert [column.header for column in part.columns] == ["adapter", "0: overhead", "1: overhead"]


def test_no_word_is_broken_while_another_column_has_room_to_spare() -> None:
    options = "execution_mode, dynamic_quantization_group_size"
    columns = [
        Column[str]("hardware", lambda _: "one of the processors that are sold with many words " * 2, folds=True),
        Column[str]("options", lambda _: options, folds=True),
    ]
    (part,) = drawn(Table("Devices", columns, ["here"]), 80)
    hardware, shown = (column.width or 0 for column in part.columns)
    assert shown >= len("dynamic_quantization_group_size")
    assert hardware + shown + 3 * 2 + 1 == 80


def answer(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-c",
        "import sys; sys.argv[0] = 'adaptare'; from adaptare.__main__ import main; main()",
        *words,
    ]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["exp"], ["export"]),
        (["train", "MODEL", "--recipe", "sqft-s"], ["sqft-sparse", "sqft-sparsepeft"]),
        (["devices", "list", "simul"], ["simulated"]),
    ],
)
def test_the_shell_completes_commands_devices_recipes_and_kinds(words: list[str], expected: list[str]) -> None:
    typed = {"COMP_WORDS": " ".join(["adaptare", *words]), "COMP_CWORD": str(len(words))}
    done = answer(_ADAPTARE_COMPLETE="complete_bash", **typed)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, expected, "")


def test_a_completion_imports_nothing_heavy() -> None:
    code = (
        "import atexit, sys; sys.argv[0] = 'adaptare'; from adaptare.__main__ import main; "
        f"atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)); main()"
    )
    typed = {"COMP_WORDS": "adaptare overhead MODEL --device ort-c", "COMP_CWORD": "4"}
    environment = {**os.environ, "_ADAPTARE_COMPLETE": "complete_bash", **typed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr.strip()) == ("ort-cpu", "[]")


@pytest.mark.parametrize("words", [(), ("overhead",), ("dataset", "export")], ids=" ".join)
def test_h_is_help(words: tuple[str, ...], run: Callable[..., Any]) -> None:
    assert run(*words, "-h").out == run(*words, "--help").out != ""


@pytest.mark.parametrize("words", GROUPS, ids=" ".join)
def test_the_list_of_commands_cuts_no_sentence(words: tuple[str, ...], run: Callable[..., Any]) -> None:
    assert "..." not in run(*words, "--help").out.partition("Commands:")[2]


@pytest.mark.parametrize("words", [*GROUPS, *COMMANDS], ids=" ".join)
def test_the_help_of_a_command_ends_with_an_example_of_that_command(
    words: tuple[str, ...], run: Callable[..., Any]
) -> None:
    example = shlex.split(" ".join(run(*words, "--help").out.partition("Example: ")[2].split()))
    assert example[: 1 + len(words)] == ["adaptare", *words]
    context = GROUP.make_context("adaptare", example[1:])  # parses, without running it
    while isinstance(context.command, typer.core.TyperGroup):
        name, command, rest = context.command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    assert context.params


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["overheads", "tiny-random"], "overhead"),
        (["overhead", "tiny-random", "--devise", "simulated"], "--device"),
        (["overhead", "tiny-random", "--device", "ort-cpu:int44"], "int4"),
        (["overhead", "tiny-random", "--device", "ort-cpu:thread=1"], "threads"),
        (["overhead", "tiny-random", "--device", "shh://board/ort-cpu"], "ssh"),
        (["profile", "tiny-random", "--device", "simulated", "--space", "block"], "blocks"),
        (["export", "front.json", "-o", "exported", "--to", "onx"], "onnx"),
    ],
)
def test_a_mistyped_name_is_answered_with_the_nearest_one(
    words: Sequence[str], near: str, run: Callable[..., Any], model_cache: Path
) -> None:
    done = run(*words, *(["--cache", model_cache] if words[0] in ("overhead", "profile") else []))
    assert done.code == 2
    assert near in re.split("id you mean|ossible options", done.err, maxsplit=1)[1]


def test_nothing_similar_is_not_suggested(run: Callable[..., Any]) -> None:
    assert "did you mean" not in run("overhead", "tiny-random", "--device", "abacus").err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_an_output_without_micro_signs_gets_letters_instead() -> None:
    code = "import adaptare.entry as entry; entry.app = lambda **_: print('+9.5 µs ±1, 你'); entry.run()"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "+9.5 us +-1, ?\n"


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_a_terminal_has_colours_unless_they_are_not_wanted(
    variables: dict[str, str], coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", **variables}.items():
        monkeypatch.setenv(name, value)
    with Console(as_json=False).progress("measuring") as update:
        update(0.5, "opening 2")
    assert ("\x1b[3" in terminal.getvalue()) is coloured
    assert "opening 2" in terminal.getvalue()
