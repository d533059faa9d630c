"""The tutorial is run: its console blocks in their order, in one shell, on the small model of its rehearsal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[1] / "docs" / "tutorial.md"
CHOICE = re.compile(r"^MODEL=\S+ DEVICE=\S+ BUDGET=\S+ SECS=\d+$", flags=re.MULTILINE)
# Met, missed or ambiguous: how fast the machine is today decides, and not the code.
VERDICTS = {0, 1, 4}


def commands() -> list[str]:
    """Lines after `$` in console blocks."""
    blocks = re.findall(r"^```console\n(.*?)^```$", TUTORIAL.read_text(encoding="utf-8"), flags=re.M | re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def test_the_rehearsal_names_what_the_tutorial_chooses() -> None:
    (rehearsal,) = CHOICE.findall(TUTORIAL.read_text(encoding="utf-8"))
    assert CHOICE.fullmatch(commands()[0])
    assert "tiny-random" in rehearsal


@pytest.mark.slow
def test_the_tutorial_runs_from_the_first_line_to_the_last(tmp_path: Path) -> None:
    (rehearsal,) = CHOICE.findall(TUTORIAL.read_text(encoding="utf-8"))
    program = tmp_path / "bin" / "adaptare"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m adaptare "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    told = [f'{line}\necho "exit code: $?"' for line in commands()[1:]]
    (tmp_path / "tutorial.sh").write_text("\n".join([rehearsal, *told]), encoding="utf-8")
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        ["bash", "../tutorial.sh"], cwd=tmp_path / "work", env=environment, capture_output=True, text=True, check=False
    )
    codes = dict(zip(commands()[1:], map(int, re.findall(r"^exit code: (\d+)$", done.stdout, re.M)), strict=True))
    wrong = {line: code for line, code in codes.items() if code not in (VERDICTS if " verify " in line else {0})}
    assert wrong == {}, done.stdout + done.stderr
    assert (tmp_path / "work" / "adapter" / "adapter_config.json").exists()
