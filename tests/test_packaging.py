"""What is installed: every file of the folders, under one name, without loading what it may not need."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "cli": "adaptare",
    "core": "adaptare/core",
    "devices": "adaptare/devices",
    "profiler": "adaptare/profiler",
    "predictor": "adaptare/predictor",
    "search": "adaptare/search",
    "workflows": "adaptare/workflows",
    "testing": "adaptare/testing",
}
PACKAGES = [name.replace("/", ".") for name in FOLDERS.values()]
BESIDE = ["pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"]


def run(code: str, folder: Path) -> str:
    """Standard output of a fresh interpreter that runs the code in a folder."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[PurePosixPath]:
    """The names in a wheel built from a clean copy of the sources."""
    copy = tmp_path_factory.mktemp("sources")
    for folder in [*FOLDERS, "tests"]:
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        shutil.copy(ROOT / name, copy / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(copy / "dist"), str(copy)]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "Warning" not in built.stdout + built.stderr
    (file,) = (copy / "dist").glob("*.whl")
    with zipfile.ZipFile(file) as content:
        return {PurePosixPath(name) for name in content.namelist()}


def test_the_wheel_holds_exactly_the_python_files_of_the_folders(wheel: set[PurePosixPath]) -> None:
    expected = {
        PurePosixPath(target) / file.relative_to(ROOT / folder).as_posix()
        for folder, target in FOLDERS.items()
        for file in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in wheel if name.suffix == ".py"} == expected


def test_the_wheel_carries_the_sources_of_the_agent_in_c(wheel: set[PurePosixPath]) -> None:
    sources = {file.name for file in (ROOT / "devices" / "native").glob("*.[ch]")}
    assert sources
    assert {name.name for name in wheel if name.suffix in (".c", ".h")} == sources


def test_the_wheel_holds_the_page_of_the_browser_device(wheel: set[PurePosixPath]) -> None:
    page = ROOT / "devices" / "browser" / "page"
    expected = {PurePosixPath("adaptare/devices/browser/page") / file.name for file in page.iterdir()}
    assert {name for name in wheel if "page" in name.parts} == expected
    assert len(expected) == 5


def test_the_wheel_takes_one_name_only(wheel: set[PurePosixPath]) -> None:
    assert {name.parts[0] for name in wheel if not name.parts[0].endswith(".dist-info")} == {"adaptare"}


def test_the_wheel_holds_no_tests(wheel: set[PurePosixPath]) -> None:
    assert [name for name in wheel if "test" in name.name or "tests" in name.parts] == []


def test_the_wheel_says_that_it_is_typed(wheel: set[PurePosixPath]) -> None:
    assert PurePosixPath("adaptare/py.typed") in wheel


def test_the_wheel_carries_the_licence(wheel: set[PurePosixPath]) -> None:
    assert [name.name for name in wheel if "licenses" in name.parts] == ["LICENSE"]


def test_no_ordinary_word_is_taken_from_the_user(tmp_path: Path) -> None:
    loaded = run(f"import sys, {', '.join(PACKAGES)}; print(*sys.modules)", tmp_path).split()
    assert set(loaded) & {*FOLDERS, "tests"} == set()
    assert "adaptare.search" in loaded


@pytest.mark.slow_after(2)
@pytest.mark.parametrize("name", list(FOLDERS))
def test_a_module_of_the_user_with_the_name_of_a_folder_is_the_one_that_is_found(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("whose = 'the user'", encoding="utf-8")
    assert run(f"import adaptare.search, {name}; print({name}.whose)", tmp_path) == "the user\n"


def test_nothing_heavy_is_loaded_on_import(tmp_path: Path) -> None:
    loaded = run(f"import sys, {', '.join(PACKAGES)}; print(*sys.modules)", tmp_path).split()
    assert set(loaded) & {"torch", "onnxruntime", "transformers", "peft", "pymoo"} == set()


def test_nothing_is_said_or_written_on_import(tmp_path: Path) -> None:
    assert run(f"import {', '.join(PACKAGES)}", tmp_path) == ""
    assert list(tmp_path.iterdir()) == []


def test_the_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    code = "import adaptare, importlib.metadata; print(adaptare.__version__ == importlib.metadata.version('adaptare'))"
    assert run(code, tmp_path) == "True\n"
