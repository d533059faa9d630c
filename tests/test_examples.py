"""Every notebook runs from top to bottom in an empty folder, and is stored without what a run adds."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode, v4

EXAMPLES = Path(__file__).parents[1] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
METADATA = {"language_info": {"name": "python"}}  # what the command in the README of the examples leaves


@pytest.fixture
def folder(tmp_path: Path, shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in; what Jupyter and adaptare write elsewhere is kept from the user's folders."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared_folder))
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def run(notebook: NotebookNode, folder: Path) -> None:
    """Runs every cell, and stores its outputs in the notebook."""
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_every_notebook_is_listed() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 3
    assert [file.name for file in NOTEBOOKS if f"({file.name})" not in listed] == []


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_stored_without_outputs_and_metadata_of_a_run(file: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == METADATA
    assert [cell.id for cell in notebook.cells if cell.metadata] == []
    assert [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count] == []
    assert file.read_text(encoding="utf-8") == nbformat.writes(notebook) + "\n"


@pytest.mark.slow
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_ends_with_a_figure(file: Path, folder: Path) -> None:
    notebook = nbformat.read(file, as_version=4)
    run(notebook, folder)
    assert any("image/png" in output.get("data", {}) for output in code_cells(notebook)[-1].outputs)


def test_a_cell_that_raises_fails_the_run(folder: Path) -> None:
    notebook = v4.new_notebook(cells=[v4.new_code_cell("raise ValueError('no adapter')")], metadata=METADATA)
    with pytest.raises(CellExecutionError, match="no adapter"):
        run(notebook, folder)
