"""What the documentation shows is run: examples in docstrings and the Python of every page.

Commands are parsed, extras exist, and links lead somewhere.
"""

import doctest
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from adaptare.app import app
from adaptare.core import lazy_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FOLDERS = {"cli": "adaptare", "devices": "adaptare.devices", "profiler": "adaptare.profiler"} | {
    name: f"adaptare.{name}" for name in ("predictor", "search", "testing")
}
MODULES = sorted(
    ".".join([package, *file.relative_to(ROOT / folder).with_suffix("").parts]).removesuffix(".__init__")
    for folder, package in FOLDERS.items()
    for file in (ROOT / folder).rglob("*.py")
)
# What the README shows and a test cannot wait for. One linear of a tiny model is a large part of it: hence the budget.
SMALLER = {
    '"smollm2-135m"': '"tiny-random"',
    "1.1 * predictor": "3.0 * predictor",
    "design(space, 24": "design(space, 12",
    "seconds=20": "seconds=1, openings=2",
    "steps=40": "steps=2",
    "evaluations=24": "evaluations=6",
}


def python_blocks(text: str) -> list[str]:
    """The code between fences that say `python`."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


# What two pages show alike is run once.
BLOCKS = {
    name: block
    for block, name in {
        block: f"{page.stem} {number}"
        for page in PAGES
        for number, block in enumerate(python_blocks(page.read_text(encoding="utf-8")), 1)
    }.items()
}


def test_examples_in_docstrings_are_right() -> None:
    assert [name for name in MODULES if doctest.testmod(importlib.import_module(name)).failed] == []


def smaller(block: str) -> str:
    for shown, replaced in SMALLER.items():
        block = block.replace(shown, replaced)
    return block


# Importing takes longer than most blocks do, so one process runs them all, each with names of its own.
RUNNER = "import runpy, sys\nfor file in sys.argv[1:]:\n    print(file)\n    runpy.run_path(file, run_name='__main__')"
SUITES = {name for name, block in BLOCKS.items() if "Suite)" in block}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "runner"),
    [(SUITES, ["-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider"]), (BLOCKS.keys() - SUITES, ["-c", RUNNER])],
    ids=["suites", "the others"],
)
def test_the_python_of_the_documentation_runs(names: set[str], runner: list[str], tmp_path: Path) -> None:
    files = {name: tmp_path / f"{name.replace(' ', '_').replace('-', '_')}.py" for name in sorted(names)}
    for name, file in files.items():
        file.write_text(smaller(BLOCKS[name]), encoding="utf-8")
    command = [sys.executable, *runner, *(file.name for file in files.values())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads would only wait for each other
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(file.name in done.stdout for file in files.values()), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def expanded(page: str) -> str:
    """A page with the values of its shell variables, which a line such as `$ MODEL=tiny-random SECS=6` sets."""
    set_here = dict(re.findall(r"([A-Z]+)=(\S+)", "\n".join(re.findall(r"^\$ [A-Z]+=.*$", page, re.M))))
    return re.sub(r"\$([A-Z]+)\b", lambda name: set_here.get(name[1], name[0]), page)


# `$ adaptare overhead …` in blocks of the shell, comments left out.
COMMANDS = {
    f"{page.stem} {line}": tuple(shlex.split(shown, comments=True))
    for page in PAGES
    for line, text in enumerate(expanded(page.read_text(encoding="utf-8")).splitlines(), 1)
    for shown in re.findall(r"^\$ adaptare (.*)$", text)
}
ADAPTARE: Any = get_command(app)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def command_of(words: list[str]) -> Any:
    """The command that words begin with; they are taken out of the list."""
    command = ADAPTARE
    while commands := getattr(command, "commands", None):
        command = commands[words.pop(0) if words and words[0] in commands else "list"]  # as `adaptare devices` takes it
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_the_documentation_are_understood(name: str) -> None:
    words = list(COMMANDS[name])
    command = command_of(words)
    command.make_context(command.name, words)


def test_the_table_of_commands_has_every_command() -> None:
    shown = re.findall(r"^\| `adaptare ([a-z]+)", (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8"), re.M)
    assert {*shown} == {*ADAPTARE.commands}


def test_extras_that_are_named_exist() -> None:
    files = [*PAGES, *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))]
    named = {
        extra.strip()
        for file in files
        for extras in re.findall(r"pip install '(?:adaptare|\.)\[([a-z, -]+)\]'", file.read_text(encoding="utf-8"))
        for extra in extras.split(",")
    } | {*lazy_names.EXTRAS.values()}
    assert {"demo", "torch"} <= named <= EXTRAS.keys()
