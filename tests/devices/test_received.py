"""Nothing that a device or a host sends is unpickled or evaluated: no code here could."""

import ast
import re
from pathlib import Path

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


def test_no_module_unpickles_or_evaluates() -> None:
    assert len(SOURCES) > 40
    found = {source.name: names(ast.parse(source.read_text(encoding="utf-8"))) for source in SOURCES}
    assert {name: used for name, used in found.items() if used & (UNPICKLING | EVALUATING)} == {}


def test_no_script_of_the_page_evaluates_or_writes_markup() -> None:
    assert len(SCRIPTS) > 1
    text = "".join(script.read_text(encoding="utf-8") for script in SCRIPTS)
    assert not re.search(r"\beval\(|new Function|innerHTML|outerHTML|document\.write|insertAdjacentHTML", text)
