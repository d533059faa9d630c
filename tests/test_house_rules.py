"""Rules of the house that ruff, mypy and import-linter cannot check."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES_PER_FILE = 400
# Put together so that this file does not hold what it looks for.
ABSOLUTE = re.compile(r"(?<![\w.~$}/])/" + "(?:tmp|home|root|Users)/")
TEXTS = {".py", ".ipynb", ".md", ".toml", ".in", ".yaml", ".yml", ".cff", ".html", ".js", ".c", ".h", ""}


def tracked() -> dict[str, str]:
    """Text files of the project, by their path in it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    files = [ROOT / name for name in listed if name and Path(name).suffix in TEXTS]
    return {str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files if file.is_file()}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_no_file_is_longer_than_a_reader_likes_or_names_a_place_on_one_machine() -> None:
    files = tracked()
    sources = {name: text for name, text in files.items() if name.endswith(".py")}
    assert {name: len(text.splitlines()) for name, text in sources.items() if text.count("\n") > LINES_PER_FILE} == {}
    named = {name: ABSOLUTE.findall(text) for name, text in files.items()}
    assert {name: found for name, found in named.items() if found} == {}


TESTS = {
    "mark": "@pytest.mark.demo_model\n@pytest.mark.skipif(True, reason='no')\ndef test_it(): pass",
    "call": "@pytest.mark.demo_model\ndef test_it(): pytest.skip('no')",
    "fixture": "@pytest.fixture\ndef f(): pytest.skip('no')\n@pytest.mark.demo_model\ndef test_it(f): pass",
    "file": "pytest.importorskip('no_such_package')\n@pytest.mark.demo_model\ndef test_it(): pass",
    "runs": "@pytest.mark.demo_model\n@pytest.mark.smoke\ndef test_it(): pass",
    "slow": "@pytest.mark.slow\ndef test_it(): pass",
    "service": "@pytest.mark.ssh\ndef test_it(): pass",
}


@pytest.fixture
def guarded(tmp_path: Path) -> Callable[..., str]:
    """Runs pytest in a folder of its own beside a copy of the guard, and returns what it printed."""
    (tmp_path / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text("utf-8"), encoding="utf-8")
    settings = "[pytest]\nmarkers =\n demo_model: x\n slow: x\n smoke: x\n ssh: x\n service: x\ntestpaths = .\n"
    (tmp_path / "pytest.ini").write_text(settings, encoding="utf-8")
    for name, test in TESTS.items():
        (tmp_path / f"test_{name}.py").write_text(f"import pytest\n{test}\n", encoding="utf-8")

    def run(*arguments: str, declared: str = "") -> str:
        command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *arguments]
        environment = {**os.environ, "ADAPTARE_MUST_RUN": declared}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return run


def ended(printed: str, how: str) -> set[str]:
    return set(re.findall(rf"^(?:{how}) test_(\w+)\.py", printed, flags=re.MULTILINE))


def test_a_declared_test_must_not_be_skipped(guarded: Callable[..., str]) -> None:
    printed = guarded("--continue-on-collection-errors", declared="demo_model")
    assert ended(printed, "FAILED|ERROR") == {"mark", "call", "fixture", "file"}, printed
    assert ended(printed, "PASSED") == {"runs", "slow", "service"}, printed


@pytest.mark.slow
def test_a_declared_mark_needs_a_test_that_passed(guarded: Callable[..., str]) -> None:
    files = ("-n", "1", "test_runs.py", "test_service.py")
    assert "of which no test passed: {'ssh'}" in guarded(*files, "-m", "smoke", declared="demo_model,ssh")
    assert "of which no test passed" not in guarded(*files, declared="demo_model,ssh")


def test_slow_tests_and_services_are_left_out_by_default(guarded: Callable[..., str]) -> None:
    printed = guarded("-n", "1")
    assert ended(printed, "PASSED") == {"runs"}, printed
    assert "left out: tests marked slow" in printed
