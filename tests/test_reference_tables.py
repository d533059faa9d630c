"""Tables of the documentation that repeat what the sources say: messages, and what each runtime measures."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.devices import connect
from adaptare.profiler import Configuration, Workload, open_model
from adaptare.profiler.programs.builders import Programs, programs_for

ROOT = Path(__file__).parents[1]
PACKAGES = ("core", "devices", "profiler", "predictor", "search", "workflows", "cli")
FEWEST_LETTERS = 8


def cells(page: str, heading: str) -> list[list[str]]:
    """Rows of the table below a heading, without its first line."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return [rows[0], *rows[2:]]


def texts() -> str:
    """All texts of the sources, with a gap for each value that a message has."""
    trees = (ast.parse(file.read_text("utf-8")) for name in PACKAGES for file in (ROOT / name).rglob("*.py"))
    found = (each for tree in trees for each in ast.walk(tree) if isinstance(each, ast.Constant))
    return "\n".join(each.value for each in found if isinstance(each.value, str))


def test_messages_of_the_page_exist() -> None:
    page, known = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), texts()
    messages = [match for line in page.splitlines() for match in re.findall(r"^\| `([^`]+)` \|", line)]
    assert len(messages) > 10
    parts = [part.strip() for message in messages for part in message.split("…")]
    assert not [part for part in parts if len(part) >= FEWEST_LETTERS and part not in known]


def runs(programs: Programs, *workloads: Workload) -> bool:
    try:
        for each in workloads:
            programs.check(each)
    except InputError:
        return False
    return True


def modes(programs: Programs, workload: Workload) -> str:
    """Modes of adapters of one rank."""
    return ", ".join(programs.modes(workload)) if runs(programs, workload) else ""


@pytest.mark.parametrize("column", range(1, 5))
def test_the_page_says_what_each_runtime_measures(column: int, tmp_path: Path) -> None:
    (_, *devices), *rows = cells("devices.md", "What each runtime measures")
    shape = open_model("tiny-random", cache=tmp_path).shape
    adapter, programs = Configuration.uniform(shape, 4), programs_for(connect(devices[column - 1].strip("`")).info())
    workload, by_path = Workload(shape, adapter), dict(adapter.by_path)

    def of(configuration: Configuration, **changes: str) -> bool:
        return runs(programs, replace(workload, configuration=configuration, **changes))

    quantised = [replace(workload, quantisation=name) for name in ("int8", "int4")]
    wide = [replace(workload, dtype=name) for name in ("bfloat16", "float16")]
    yes = {
        "several sequences, `--batch`": runs(programs, replace(workload, batch=2)),
        "DoRA": of(Configuration.of(by_path, kind="dora")),
        "MLP widths and fewer layers": of(Configuration.of(by_path, widths={0: 32}))
        and of(Configuration.of({}, left_out=[1])),
        "one block or the head alone": of(adapter, scope="block") and of(Configuration(), scope="head"),
        "rank 0 in an open graph, `--open`": of(Configuration.of(dict(adapter.ranks[:1])), graph="open"),
    }
    expected = {name: "yes" * each for name, each in yes.items()} | {
        "modes, weights in floating point": modes(programs, workload),
        "modes, 4-bit weights": modes(programs, quantised[1]),
        "weights in 16 bits": ", ".join(each.dtype for each in wide if runs(programs, each)),
        "weights in 8 and 4 bits": ", ".join(each.quantisation for each in quantised if runs(programs, each)),
    }
    said = {row[0]: row[column] for row in rows}
    del said["shares of time, `adaptare operators`"]
    assert said == expected
