"""The command line as a program: what it imports, its output, and interrupts."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptare import VERSION
from adaptare.profiler import Store

HEAVY = ("torch", "transformers", "sklearn", "pymoo", "sqlalchemy", "onnxruntime")


def test_help_imports_nothing_heavy() -> None:
    """What makes a command line slow is what it imports; the time itself depends on the machine."""
    code = (
        "import sys\nsys.argv = ['adaptare', '--help']\nfrom adaptare.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "overhead" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_is_not_understood_is_told_in_json_too() -> None:
    words = [sys.executable, "-m", "adaptare", "profile", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Missing argument 'MODEL'" in done.stderr
    assert "Missing argument 'MODEL'" in json.loads(done.stdout)["error"]


def test_the_version_is_told(run: Callable[..., Any]) -> None:
    assert run("--version").out.strip() == VERSION


def test_stdout_is_one_json_object_and_progress_goes_to_stderr(run: Callable[..., Any], model_cache: Path) -> None:
    words = ("profile", "tiny-random", "--device", "simulated", "--count", 2, "--seconds", 0.1, "--cache", model_cache)
    answer = run(*words, "--json")
    assert json.loads(answer.out)["measured"] == 2
    assert "measuring decode: 100%" in answer.err


@pytest.mark.slow
def test_ctrl_c_while_profiling_keeps_what_was_measured(
    tmp_path: Path, model_cache: Path, run: Callable[..., Any]
) -> None:
    words = ("profile", "tiny-random", "--device", "ort-cpu:threads=1", "--count", "3", "--cache", str(model_cache))
    command = [sys.executable, "-m", "adaptare", *words, "--half-width", "0.0001%", "--seconds", "600"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if "round" in line)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert "go on from them" in said
    kept = Store(tmp_path / "adaptare.db", create=False).measurements()
    assert [each.stopped_by for each in kept] == ["interrupted"] * 3
    assert all(each.visits for each in kept)
    again = run(*words, "--half-width", "50%", "--seconds", 0.5, "--json")
    assert (again.code, again.json["measured"], again.json["already_there"]) == (0, 3, 0)


ENDLESS = """
import typer
from adaptare.app import app
from adaptare.console import command, console

@app.command("say")
@command
def say() -> int:
    return console().show(LINES, lambda lines: lines)

LINES = ["a long line " * 20] * 10_000

from adaptare.__main__ import main
main()
"""


@pytest.mark.parametrize("words", [["say", "--json"], ["--help"]])
def test_a_full_stdout_is_no_answer(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", ENDLESS, *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (3, "error: the output cannot be written: No space left on device\n")


def test_a_reader_that_has_seen_enough_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        command = [sys.executable, "-c", ENDLESS, "say"]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_ctrl_c_while_modules_are_imported_ends_it_without_a_traceback() -> None:
    code = (
        "import sys\nclass Interrupt:\n    def find_spec(self, name, *rest):\n"
        "        if name == 'adaptare.commands.devices':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\nsys.argv = ['adaptare', 'devices']\n"
        "from adaptare.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
