"""Rules of the house that a reader would otherwise have to check by hand."""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ["cli", "devices", "profiler", "predictor", "search"]
NAMES = ["adaptare", *(f"adaptare.{package}" for package in PACKAGES[1:])]
SOURCES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = {".py", ".md", ".toml", ".in", ".yaml", ".yml", ".cfg", ".txt", ".html", ".sh", ""}
LINES_PER_FILE = 400
TESTS_PER_SOURCE = 0.6
# Put together so that this file does not hold what it looks for.
ABSOLUTE = re.compile(r"(?<![\w.~$}/])/" + "(?:tmp|home|root|Users)/")
SYSTEM_FILES = re.compile(r"/(?:proc|sys)\b|\b(?:proc|sys)/")
SYSTEM_MODULES = {"platform", "psutil", "resource"}
# Runtimes are told apart by who is registered for them, and memory is what a plain process gets.
SWITCHES = ['startswith("' + "onnx", 'startswith("' + "torch", "GLIBC_" + "TUNABLES"]
ASKING = [file for file in SOURCES if file.parent == ROOT / "devices"]


def short(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def lines(file: Path) -> int:
    return len(file.read_text(encoding="utf-8").splitlines())


def texts() -> list[Path]:
    """Every text file that is ours: the folders of the project and what lies beside them."""
    folders = [*PACKAGES, "tests", "docs", "examples", "benchmarks", ".ci", ".github"]
    inside = [file for folder in folders if (ROOT / folder).is_dir() for file in (ROOT / folder).rglob("*")]
    found = [file for file in [*ROOT.iterdir(), *inside] if file.is_file() and file.suffix in TEXTS]
    return sorted(file for file in found if "__pycache__" not in file.parts and not file.name.startswith(".coverage"))


def called_names(tree: ast.AST) -> set[str]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {node.func.id for node in calls if isinstance(node.func, ast.Name)}


def imported_names(tree: ast.AST) -> set[str]:
    """Top-level modules that are imported anywhere."""
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    return {
        name.split(".")[0]
        for name in plain | {f"{node.module}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    }


def public_objects() -> list[tuple[str, str]]:
    return [(name, public) for name in NAMES for public in importlib.import_module(name).__all__]


@pytest.mark.parametrize("file", [*SOURCES, *TESTS], ids=short)
def test_no_file_is_longer_than_a_reader_likes(file: Path) -> None:
    assert lines(file) <= LINES_PER_FILE


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_the_library_raises_and_does_not_assert(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize("file", [file for file in SOURCES if file.parent.name != "cli"], ids=short)
def test_the_library_neither_prints_nor_exits(file: Path) -> None:
    assert called_names(ast.parse(file.read_text(encoding="utf-8"))) & {"print", "exit", "quit", "input"} == set()


@pytest.mark.parametrize("file", ASKING, ids=short)
def test_nobody_but_the_agent_reads_facts_of_the_system_for_a_device(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert SYSTEM_FILES.findall(source) == []
    assert imported_names(ast.parse(source)) & SYSTEM_MODULES == set()


@pytest.mark.parametrize("line", ['open("/proc/cpuinfo")', 'Path("/sys")', 'root / "sys/devices"'])
def test_the_guard_knows_files_of_the_system(line: str) -> None:
    assert SYSTEM_FILES.search(line)


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_no_text_switches_by_the_name_of_a_runtime_or_tunes_its_memory(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    assert [switch for switch in SWITCHES if switch in source] == []


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_no_file_is_named_like_a_module_of_python(file: Path) -> None:
    assert file.stem.startswith("__") or file.stem not in sys.stdlib_module_names


@pytest.mark.parametrize("file", texts(), ids=short)
def test_no_text_names_a_place_on_one_machine(file: Path) -> None:
    numbered = enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
    assert [f"{number}: {line}" for number, line in numbered if ABSOLUTE.search(line)] == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("see /" + "home/me/x", True),
        ("'/" + "tmp/x'", True),
        ("~/home/x", False),
        ("$ROOT/home/x", False),
        ("take/home/x", False),
    ],
)
def test_the_guard_knows_places_on_one_machine(line: str, found: bool) -> None:
    assert bool(ABSOLUTE.search(line)) is found


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_is_a_package(package: str) -> None:
    folders = {file.parent for file in (ROOT / package).rglob("*.py")}
    assert [short(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_public_names_are_listed_in_order_and_once(name: str) -> None:
    listed = importlib.import_module(name).__all__
    assert len(set(listed)) == len(listed)


@pytest.mark.parametrize(("module", "name"), public_objects(), ids=lambda name: name)
def test_a_public_name_exists_and_says_what_it_is(module: str, name: str) -> None:
    thing = getattr(importlib.import_module(module), name)
    if inspect.isclass(thing) or inspect.isfunction(thing):
        written = inspect.getdoc(thing) or ""
        generated = f"{name}(" if dataclasses.is_dataclass(thing) else "\0"
        assert len(written) > 10
        assert not written.startswith(generated)


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_every_public_function_and_class_says_what_it_is(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


def test_there_are_enough_tests_for_the_source() -> None:
    assert sum(map(lines, TESTS)) >= TESTS_PER_SOURCE * sum(map(lines, SOURCES))


def test_every_declared_mark_is_known(pytestconfig: pytest.Config) -> None:
    known = {mark.split(":")[0] for mark in pytestconfig.getini("markers")}
    declared = set(filter(None, os.environ.get("ADAPTARE_MUST_RUN", "").split(",")))
    assert declared - known == set()


@pytest.mark.parametrize(
    ("declared", "test", "code"),
    [
        ("", "@pytest.mark.slow\n@pytest.mark.skipif(True, reason='no')\ndef test_it(): pass", 0),
        ("slow", "@pytest.mark.slow\n@pytest.mark.skipif(True, reason='no')\ndef test_it(): pass", 1),
        ("slow", "@pytest.mark.slow\ndef test_it(): pytest.skip('no')", 1),
        ("slow", "@pytest.fixture\ndef f(): pytest.skip('no')\n@pytest.mark.slow\ndef test_it(f): pass", 1),
        ("slow", "pytest.importorskip('no_such_package')\n@pytest.mark.slow\ndef test_it(): pass", 2),
        ("other", "@pytest.mark.slow\n@pytest.mark.skipif(True, reason='no')\ndef test_it(): pass", 0),
        ("slow", "@pytest.mark.slow\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False", 0),
        ("slow", "@pytest.mark.slow\ndef test_it(): pass", 0),
    ],
    ids=["none declared", "mark", "call", "fixture", "file", "another", "expected failure", "runs"],
)
def test_a_declared_test_must_not_be_skipped(declared: str, test: str, code: int, tmp_path: Path) -> None:
    guard = (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(guard, encoding="utf-8")
    (tmp_path / "test_it.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: x\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    environment = {**os.environ, "ADAPTARE_MUST_RUN": declared}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
