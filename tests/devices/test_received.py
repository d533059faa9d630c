"""Nothing that a device or a host sends is unpickled or evaluated: no code here could."""

import ast
import re
from pathlib import Path

import pytest

from adaptare import devices

FOLDER = Path(devices.__file__).parent
SOURCES = sorted(FOLDER.rglob("*.py"))
SCRIPTS = sorted(FOLDER.rglob("page/*.js"))
UNPICKLING = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
EVALUATING = {"eval", "exec", "compile", "__import__"}


def names(tree: ast.AST) -> set[str]:
    """Modules that are imported, and functions that are called by a plain name."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found.add(node.func.id)
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda file: str(file.relative_to(FOLDER)))
def test_no_module_unpickles_or_evaluates(source: Path) -> None:
    assert names(ast.parse(source.read_text(encoding="utf-8"))) & (UNPICKLING | EVALUATING) == set()


def test_what_is_forbidden_would_be_found() -> None:
    assert {"pickle", "eval", "yaml"} <= names(ast.parse("import pickle\nfrom yaml import load\neval('1')"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_no_script_of_the_page_evaluates_or_writes_markup(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert not re.search(r"\beval\(|new Function|innerHTML|outerHTML|document\.write|insertAdjacentHTML", text)


def test_there_are_modules_and_scripts() -> None:
    assert len(SOURCES) > 40
    assert len(SCRIPTS) > 1
