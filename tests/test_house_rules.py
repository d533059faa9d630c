"""Rules of the house that a reader would otherwise have to check by hand."""

import ast
import dataclasses
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import pytest

from adaptare.app import app
from adaptare.commands.devices import devices
from adaptare.console import option_names

ROOT = Path(__file__).parents[1]
PACKAGES = ["cli", "core", "devices", "profiler", "predictor", "search", "workflows", "testing"]
# Packages for others; `workflows` is called by the command line, and `adaptare` exports what scripts need of it.
NAMES = ["adaptare", *(f"adaptare.{package}" for package in PACKAGES[1:] if package != "workflows")]
SOURCES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
TEXTS = {".py", ".ipynb", ".md", ".toml", ".in", ".yaml", ".yml", ".cfg", ".txt", ".html", ".sh", ""}
LINES_PER_FILE = 400
TESTS_PER_SOURCE = 0.6
# Put together so that this file does not hold what it looks for.
ABSOLUTE = re.compile(r"(?<![\w.~$}/])/" + "(?:tmp|home|root|Users)/")
SYSTEM_FILES = re.compile(r"/(?:proc|sys)\b|\b(?:proc|sys)/")
SYSTEM_MODULES = {"platform", "psutil", "resource"}
# Runtimes are told apart by who is registered for them, and memory is what a plain process gets.
SWITCHES = ['startswith("' + "onnx", 'startswith("' + "torch", "GLIBC_" + "TUNABLES"]
# The agent has an option of its own, and files on a device tell who removes them; llama.cpp has an option --base.
MENTIONS = {"devices/agent/room.py": ["adaptare devices", "--clean"], "search/export/peft.py": ["--base"]}
ASKING = [file for file in (ROOT / "devices").rglob("*.py") if file.parent.name != "agent"]
# Names the files that agents are asked for, and reads their text; it must be unable to open one.
PARSER = ROOT / "devices" / "machine_facts.py"
OPENING = {"glob", "io", "mmap", "os", "pathlib", "shutil", "subprocess"}


def short(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def lines(file: Path) -> int:
    return len(text(file).splitlines())


def texts() -> list[Path]:
    """Every text file that is ours: the folders of the project and what lies beside them."""
    folders = [*PACKAGES, "tests", "docs", "examples", "benchmarks", ".ci", ".github"]
    inside = [file for folder in folders if (ROOT / folder).is_dir() for file in (ROOT / folder).rglob("*")]
    found = [file for file in [*ROOT.iterdir(), *inside] if file.is_file() and file.suffix in TEXTS]
    return sorted(file for file in found if "__pycache__" not in file.parts and not file.name.startswith(".coverage"))


def called_names(root: ast.AST) -> set[str]:
    calls = [node for node in ast.walk(root) if isinstance(node, ast.Call)]
    return {node.func.id for node in calls if isinstance(node.func, ast.Name)}


def imported_names(root: ast.AST) -> set[str]:
    """Top-level modules that are imported anywhere."""
    plain = {name.name for node in ast.walk(root) if isinstance(node, ast.Import) for name in node.names}
    return {
        name.split(".")[0]
        for name in plain | {f"{node.module}" for node in ast.walk(root) if isinstance(node, ast.ImportFrom)}
    }


@cache
def text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(text(file))


def faults(files: Iterable[Path], find: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """What was found in which file; files in which nothing was are left out."""
    return {short(file): found for file in files if (found := list(find(file)))}


def test_no_file_is_longer_than_a_reader_likes() -> None:
    assert {short(file): lines(file) for file in [*SOURCES, *TESTS] if lines(file) > LINES_PER_FILE} == {}


def test_the_library_raises_and_does_not_assert() -> None:
    def asserts(file: Path) -> list[int]:
        return [node.lineno for node in ast.walk(tree(file)) if isinstance(node, ast.Assert)]

    # Suites are tests, wherever they lie.
    assert faults([file for file in SOURCES if ROOT / "testing" not in file.parents], asserts) == {}


def test_the_library_neither_prints_nor_exits() -> None:
    library = [file for file in SOURCES if ROOT / "cli" not in file.parents]
    assert faults(library, lambda file: called_names(tree(file)) & {"print", "exit", "quit", "input"}) == {}


def test_nobody_but_the_agent_reads_facts_of_the_system_for_a_device() -> None:
    assert ASKING
    assert faults([file for file in ASKING if file != PARSER], lambda file: SYSTEM_FILES.findall(text(file))) == {}
    assert faults(ASKING, lambda file: imported_names(tree(file)) & SYSTEM_MODULES) == {}
    assert imported_names(tree(PARSER)) & OPENING == set()
    assert "open" not in called_names(tree(PARSER))


@pytest.mark.parametrize("line", ['open("/proc/cpuinfo")', 'Path("/sys")', 'root / "sys/devices"'])
def test_the_guard_knows_files_of_the_system(line: str) -> None:
    assert SYSTEM_FILES.search(line)


def test_no_text_switches_by_the_name_of_a_runtime_or_tunes_its_memory() -> None:
    assert faults(SOURCES, lambda file: [switch for switch in SWITCHES if switch in text(file)]) == {}


@cache
def words_of_the_command_line() -> re.Pattern[str]:
    """Mentions of its commands and long options; other programs may have options of the same names."""
    functions = {
        command.name or command.callback.__name__: command.callback
        for group in (app, devices)
        for command in group.registered_commands
        if command.callback
    }
    words = [word for function in functions.values() for names in option_names(function).values() for word in names]
    options = sorted({option for word in words for option in word.split("/") if option.startswith("--")})
    commands = "|".join([*functions, "devices"])
    return re.compile(rf"adaptare (?:{commands})\b|(?<![\w-])(?:{'|'.join(options)})(?![\w-])")


def test_the_library_names_no_command_and_no_option() -> None:
    """What a user types is known by the command line only: messages name parameters in words."""

    def found(file: Path) -> list[str]:
        texts = [node.value for node in ast.walk(tree(file)) if isinstance(node, ast.Constant)]
        return [
            mention[0]
            for text in texts
            if isinstance(text, str)
            for mention in words_of_the_command_line().finditer(text)
        ]

    library = [file for file in SOURCES if short(file).split("/")[0] not in ("cli", "testing")]
    assert faults(library, found) == MENTIONS


def test_no_file_is_named_like_a_module_of_python() -> None:
    names = [file.stem for file in SOURCES if not file.stem.startswith("__")]
    assert set(names) & sys.stdlib_module_names == set()


def test_no_text_names_a_place_on_one_machine() -> None:
    named = faults(texts(), lambda file: [line for line in text(file).splitlines() if ABSOLUTE.search(line)])
    assert named == {}


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
def test_public_names_are_listed_once(name: str) -> None:
    listed = importlib.import_module(name).__all__
    assert len(set(listed)) == len(listed)


def says_what_it_is(name: str, thing: object) -> bool:
    """A docstring of its own, and not that which a dataclass is given."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return True
    written = inspect.getdoc(thing) or ""
    return len(written) > 10 and not (dataclasses.is_dataclass(thing) and written.startswith(f"{name}("))


def test_no_two_classes_have_the_same_name() -> None:
    """A reader who looks for a class finds one."""
    places: dict[str, list[str]] = {}
    for file in SOURCES:
        for node in ast.parse(text(file)).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(short(file))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("package", NAMES)
def test_a_public_name_exists_and_says_what_it_is(package: str) -> None:
    module = importlib.import_module(package)
    assert [name for name in module.__all__ if not says_what_it_is(name, getattr(module, name))] == []


def test_the_guard_knows_a_docstring_that_nobody_wrote() -> None:
    made = dataclasses.make_dataclass("Made", ["width"])
    assert not says_what_it_is("Made", made)
    made.__doc__ = "A width that somebody chose."
    assert says_what_it_is("Made", made)


def test_every_public_function_and_class_says_what_it_is() -> None:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

    def silent(file: Path) -> list[str]:
        public = [node for node in tree(file).body if isinstance(node, kinds) and not node.name.startswith("_")]
        return [node.name for node in public if not ast.get_docstring(node)]

    assert faults(SOURCES, silent) == {}


def methods(file: Path) -> list[tuple[ast.ClassDef, ast.FunctionDef]]:
    """Public methods of public classes, without the setters of properties."""
    classes = [node for node in ast.walk(tree(file)) if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    inside = [(owner, node) for owner in classes for node in owner.body if isinstance(node, ast.FunctionDef)]
    plain = [(owner, node) for owner, node in inside if not any("setter" in ast.dump(at) for at in node.decorator_list)]
    return [(owner, node) for owner, node in plain if not node.name.startswith("_")]


def test_every_public_method_says_what_it_does_or_its_protocol_does() -> None:
    """Suites are left out: the names of tests are sentences."""
    library = [file for file in SOURCES if ROOT / "testing" not in file.parents]
    contracts = {
        node.name
        for file in library
        for owner, node in methods(file)
        if "Protocol" in {getattr(base, "id", "") for base in owner.bases} and ast.get_docstring(node)
    }

    def silent(file: Path) -> list[str]:
        found = [(owner, node) for owner, node in methods(file) if not ast.get_docstring(node)]
        return [f"{owner.name}.{node.name}" for owner, node in found if node.name not in contracts]

    assert faults(library, silent) == {}


def test_there_are_enough_tests_for_the_source() -> None:
    assert sum(map(lines, TESTS)) >= TESTS_PER_SOURCE * sum(map(lines, SOURCES))


def test_every_declared_mark_is_known(pytestconfig: pytest.Config) -> None:
    known = {mark.split(":")[0] for mark in pytestconfig.getini("markers")}
    declared = set(filter(None, os.environ.get("ADAPTARE_MUST_RUN", "").split(",")))
    assert declared - known == set()


def test_marks_of_tests_are_on_tests() -> None:
    """A function that slips between a mark and its test takes the mark with it, and nobody tells."""

    def found(file: Path) -> Iterable[str]:
        defined = (node for node in ast.walk(tree(file)) if isinstance(node, ast.FunctionDef | ast.ClassDef))
        for node in defined:
            marked = any(ast.unparse(each).startswith("pytest.mark.") for each in node.decorator_list)
            if marked and not node.name.lower().startswith("test"):
                yield node.name

    assert faults(TESTS, found) == {}


GUARDED = {
    "mark": "@pytest.mark.demo_model\n@pytest.mark.skipif(True, reason='no')\ndef test_it(): pass",
    "call": "@pytest.mark.demo_model\ndef test_it(): pytest.skip('no')",
    "fixture": "@pytest.fixture\ndef f(): pytest.skip('no')\n@pytest.mark.demo_model\ndef test_it(f): pass",
    "file": "pytest.importorskip('no_such_package')\n@pytest.mark.demo_model\ndef test_it(): pass",
    "expected": "@pytest.mark.demo_model\n@pytest.mark.xfail(strict=True)\ndef test_it(): assert False",
    "runs": "@pytest.mark.demo_model\ndef test_it(): pass",
    "slow": "@pytest.mark.slow\ndef test_it(): pass",
    "service": "@pytest.mark.ssh\ndef test_it(): pass",
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs pytest where the guard of these tests is, and returns what it printed."""
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "conftest.py").write_text(text(ROOT / "tests" / "conftest.py"), encoding="utf-8")
    settings = "[pytest]\nmarkers =\n demo_model: x\n slow: x\n ssh: x\n service: x\ntestpaths = .\n"
    (folder / "pytest.ini").write_text(settings, encoding="utf-8")
    for name, test in GUARDED.items():
        (folder / f"test_{name}.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")

    def run(*arguments: str, declared: str = "") -> str:
        command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "ADAPTARE_MUST_RUN": declared}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        return done.stdout

    return run


@pytest.mark.parametrize(
    ("declared", "failed"),
    [("other", {"file"}), ("demo_model", {"mark", "call", "fixture", "file"})],
    ids=["another", "demo_model"],
)
def test_a_declared_test_must_not_be_skipped(guarded: Callable[..., str], declared: str, failed: set[str]) -> None:
    printed = guarded("--continue-on-collection-errors", declared=declared)
    assert set(re.findall(r"^(?:FAILED|ERROR) test_(\w+)\.py", printed, flags=re.MULTILINE)) == failed, printed
    passed = set(re.findall(r"^(?:PASSED|XFAIL) test_(\w+)\.py", printed, flags=re.MULTILINE))
    assert passed == {"expected", "runs", "slow", "service"}, printed


@pytest.mark.slow
def test_what_needs_a_service_or_is_slow_is_left_out_unless_it_is_chosen_or_declared(
    guarded: Callable[..., str],
) -> None:
    for arguments in ((), ("-n", "1")):
        printed = guarded(*arguments)
        assert "PASSED test_runs.py" in printed, printed
        assert "PASSED test_service.py" not in printed
        assert "PASSED test_slow.py" not in printed
        assert "left out: tests marked slow (make test-slow)" in printed
        assert not re.search("FAILED|ERROR", printed), printed
    for arguments in (("-m", "service"), ("test_service.py",)):
        printed = guarded(*arguments)
        assert "PASSED test_service.py" in printed, printed
        assert "left out" not in printed
    assert "PASSED test_slow.py" in guarded("-m", "slow and not service")


OPENERS = {"What", "Whether", "Who", "How", "So", "Those", "Of", "Where", "When", "Which", "Why"}


def test_docstrings_of_the_library_begin_with_a_noun_or_a_verb() -> None:
    def found(file: Path) -> Iterable[str]:
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        texts = [ast.get_docstring(node) or "" for node in ast.walk(tree(file)) if isinstance(node, documented)]
        return [text for text in texts if text.split(" ")[0].strip(",:") in OPENERS]

    assert faults(SOURCES, found) == {}
