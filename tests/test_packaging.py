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


def test_the_wheel_holds_exactly_the_files_of_the_folders(wheel: set[PurePosixPath]) -> None:
    expected = {
        PurePosixPath(target) / file.relative_to(ROOT / folder).as_posix()
        for folder, target in FOLDERS.items()
        for pattern in ("*.py", "native/*.[ch]", "browser/page/*", "views/report/template/*", "py.typed")
        for file in (ROOT / folder).rglob(pattern)
    }
    assert {name for name in wheel if name.parts[0] == "adaptare"} == expected
    beside = {name for name in wheel if name.parts[0] != "adaptare"}
    assert {name.parts[0].endswith(".dist-info") for name in beside} == {True}
    assert "LICENSE" in {name.name for name in beside}


def test_importing_takes_no_name_of_the_user_loads_nothing_heavy_and_writes_nothing(tmp_path: Path) -> None:
    loaded = run(f"import sys, {', '.join(PACKAGES)}; print(*sys.modules)", tmp_path)
    assert set(loaded.split()) & {*FOLDERS, "tests", "torch", "onnxruntime", "transformers", "peft", "pymoo"} == set()
    assert loaded.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_the_user_with_the_name_of_a_folder_is_the_one_that_is_found(tmp_path: Path) -> None:
    for name in FOLDERS:
        (tmp_path / f"{name}.py").write_text("whose = 'the user'", encoding="utf-8")
    told = ", ".join(f"{name}.whose" for name in FOLDERS)
    assert run(f"import adaptare.search, {', '.join(FOLDERS)}; print({{{told}}})", tmp_path) == "{'the user'}\n"


def test_the_version_is_that_of_the_distribution(tmp_path: Path) -> None:
    code = "import adaptare, importlib.metadata; print(adaptare.__version__ == importlib.metadata.version('adaptare'))"
    assert run(code, tmp_path) == "True\n"
