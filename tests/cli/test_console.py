"""The table that stands above the bar while something is measured."""

import io

import pytest

from adaptare.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(console: Console) -> None:
    with console.progress("measuring") as update:
        for overhead in ("+20 %", "+24 %"):
            console.preview("so far", ["adapter", "overhead"], [["all r16", overhead]])
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


def test_a_pipe_shows_no_table_before_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    shown(Console(as_json=False))
    both = capsys.readouterr()
    assert both.out == ""
    assert "so far" not in both.err
