import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from adaptare import VERSION, arguments, profiler
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


def test_a_report_is_written_without_torch() -> None:
    code = f"import sys, adaptare.report_files; print([name for name in {HEAVY[:2]} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_options_offer_what_the_library_has() -> None:
    assert set(get_args(arguments.Mode)) == set(get_args(profiler.Mode))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["overhead", "model", "--openings", "0"], "Invalid value for '--openings'"),
        (["profile"], "Missing argument 'MODEL'"),
        (["nothing"], "No such command 'nothing'"),
    ],
)
def test_what_is_not_understood_is_told_in_json_too(words: list[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "adaptare", *words, "--json"], capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
    assert message in json.loads(done.stdout)["error"]


def test_the_version_is_told(run: Callable[..., Any]) -> None:
    assert run("--version").out.strip() == VERSION


@pytest.mark.slow
def test_devices_are_listed_with_what_they_say(run: Callable[..., Any]) -> None:
    listed = {each["name"]: each for each in run("devices", "--json").json["devices"]}
    assert listed["simulated"]["info"]["runtime"] == "simulated"
    assert listed["torch-cpu"]["info"]
    assert "simulated" in run("devices").out


@pytest.mark.slow
def test_what_a_device_does_not_tell_is_null_and_not_available(run: Callable[..., Any]) -> None:
    told = {each["name"]: each["worker"] for each in run("devices", "--json").json["devices"]}["torch-cpu"]
    out = run("devices").out
    assert {*told["hardware"].split()} <= {*out.split()}  # a long name is folded
    absent = [name for name in ("battery", "temperature_c", "governor") if told["environment"][name] is None]
    lines = {name: line for name in absent for line in out.splitlines() if name.split("_")[0] in line}
    assert all("not available" in line for line in lines.values())
    assert set(lines) == set(absent)


@pytest.mark.slow
def test_options_of_devices_that_differ_from_a_plain_process_are_listed(run: Callable[..., Any]) -> None:
    out = run("devices", "--json").json["devices"]
    options = {each["name"]: each["info"]["options"] for each in out if each["name"] in ("torch-cpu", "ort-cpu")}
    assert all("first_call=left-out" in each and "pin=no" in each for each in options.values())
    assert len(options) == 2


def test_stdout_is_one_json_object_and_notes_go_to_stderr(run: Callable[..., Any], model_cache: Path) -> None:
    answer = run("profile", "tiny-random", "--device", "simulated", "--count", 10, "--cache", model_cache, "--json")
    assert json.loads(answer.out)["measured"] == 10
    assert "measuring decode: 100%" in answer.err


def started(*words: object, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "adaptare", *map(str, words)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def interrupt_when(process: "subprocess.Popen[str]", seen: str) -> tuple[int, str]:
    """Sends Ctrl-C once a line with `seen` stands on stderr. Returns exit code and all of stderr."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if seen in line and process.poll() is None:
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=120)
    return process.returncode, "".join(lines) + rest


@pytest.mark.slow
def test_ctrl_c_while_profiling_keeps_what_was_measured(
    tmp_path: Path, model_cache: Path, run: Callable[..., Any]
) -> None:
    words = ("profile", "tiny-random", "--device", "ort-cpu:threads=1", "--count", 3, "--cache", model_cache)
    endless = ("--half-width", "0.0001%", "--seconds", "600")
    code, said = interrupt_when(started(*words, *endless, folder=tmp_path), "round")
    assert code == 130
    assert "go on from them" in said
    kept = Store(tmp_path / "adaptare.db", create=False).measurements()
    assert len(kept) == 3
    assert {each.stopped_by for each in kept} == {"interrupted"}
    assert all(each.visits for each in kept)
    again = run(*words, "--half-width", "50%", "--seconds", 0.5, "--json")
    assert (again.code, again.json["measured"], again.json["already_there"]) == (0, 3, 0)


@pytest.mark.slow
def test_ctrl_c_while_training_resumes_to_the_same_adapter(
    tmp_path: Path, model_cache: Path, data: Path, run: Callable[..., Any]
) -> None:
    words = ("train", "tiny-random", "--steps", 250, "--batch-size", 2, "--data", data, "--held-out", 4)
    words = (*words, "--cache", model_cache)
    code, said = interrupt_when(started(*words, "-o", "stopped", folder=tmp_path), "step")
    assert code == 130, said
    resumed = run(*words, "-o", "stopped", "--json")
    straight = run(*words, "-o", "straight", "--json")
    assert resumed.json["steps"] == straight.json["steps"] == 250
    assert resumed.json["full_loss"] == pytest.approx(straight.json["full_loss"], rel=1e-4)


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


@pytest.mark.parametrize("words", [["say"], ["say", "--json"], ["--help"]])
def test_a_full_stdout_is_no_answer(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", ENDLESS, *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (3, "error: the output cannot be written: No space left on device\n")


@pytest.mark.parametrize("words", [["say"], ["say", "--json"], ["--help"]])
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        command = [sys.executable, "-c", ENDLESS, *words]
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("module", ["typer", "adaptare.app", "adaptare.commands.devices"])
def test_ctrl_c_while_modules_are_imported_ends_it_without_a_traceback(module: str) -> None:
    code = (
        "import sys\nclass Interrupt:\n    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}:\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\nsys.argv = ['adaptare', 'devices']\n"
        "from adaptare.__main__ import main\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
