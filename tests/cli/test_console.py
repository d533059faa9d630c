"""Tables: above the bar while something is measured, and within the width that there is."""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare.console import Console
from adaptare.core.table import Column, Table


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(console: Console) -> None:
    with console.progress("measuring") as update:
        for overhead in ("+20 %", "+24 %"):
            columns = (Column[str]("adapter", lambda row: "all r16"), Column[str]("overhead", lambda row: row))
            console.preview([Table("so far", columns, [overhead])])
            update(0.5, "opening 2")


def test_a_terminal_shows_the_latest_table_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    shown(Console(as_json=False))
    last = terminal.getvalue().rpartition("so far")[2]
    assert "+24 %" in last
    assert last.index("all r16") < last.index("opening 2")


@pytest.mark.parametrize("name", ["", "torch-cpu"])
def test_a_note_is_a_line_of_its_own_above_the_bar(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    console = Console(as_json=False, name=name)
    note = "comparing the logits of [the written files] with those of torch, which takes a while"
    with console.progress("exporting"):
        console.note(note)
    shown = [
        line.rpartition("\r")[2] for line in re.sub("\x1b\\[[0-9?;]*[A-Za-z]", "", terminal.getvalue()).split("\n")
    ]
    assert (f"{name}: {note}" if name else note) in shown


def test_columns_that_are_left_out_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [
        Column[str](name, lambda row: row, rank) for rank, name in enumerate(("adapter", "overhead", "tokens/s"))
    ]
    for width, words in {25: "tokens/s", 60: ""}.items():
        monkeypatch.setenv("COLUMNS", str(width))
        Console(as_json=False).section(Table("", columns, ["r8"]))
        assert capsys.readouterr().err == (f"a wider terminal also shows: {words}\n" if words else "")


def test_a_pipe_shows_no_table_before_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Console(as_json=False))
    both = capsys.readouterr()
    assert both.out == ""
    assert "so far" not in both.err


@pytest.mark.parametrize("openings", [1, 4])
def test_narrow_pipes_lose_columns_and_no_digits(
    run: Callable[..., Any], model_cache: Path, monkeypatch: pytest.MonkeyPatch, openings: int
) -> None:
    words = ("overhead", "tiny-random", "--device", "simulated", "--openings", openings, "-p", 0, "-d", 4)
    words = (*words, "--seconds", 0.1, "--cache", model_cache)
    rows = run(*words, "--json").json["rows"]
    assert "tokens/s" in run(*words).out
    monkeypatch.setenv("COLUMNS", "40")
    out = run(*words).out
    table = [line for line in out.splitlines() if line and line[0] in "┏┃┡│└"]
    assert table
    assert max(map(len, table)) <= 70  # wider rather than cut
    assert "…" not in out
    for row in rows:
        interval = f"[{row['over_base']['lower']:+.1%}, {row['over_base']['upper']:+.1%}]"
        parts = interval.split() if openings == 4 else ["too few", "openings: 1"]
        assert all(part in "".join(table) for part in parts)
    assert "tokens/s" not in out
