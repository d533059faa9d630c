"""Every example runs, in an empty folder, and prints what its docstring promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
PRINTED = {
    "custom_device.py": "swappable, rank 16: +",
    "sklearn_pipeline.py": "Gaussian process: mean absolute error",
    "finetune_within_budget.py": "next: adaptare overhead tiny-random adapter-within-budget",
}
ARGUMENTS = {"sklearn_pipeline.py": ["simulated"], "finetune_within_budget.py": ["tiny-random", "simulated"]}


def test_every_example_is_listed_and_run() -> None:
    found = {file.name for file in EXAMPLES.glob("*.py")}
    assert found == set(PRINTED)
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"({name})" in listed for name in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs(name: str, tmp_path: Path, shared_folder: Path) -> None:
    command = [sys.executable, str(EXAMPLES / name), *ARGUMENTS.get(name, [])]
    environment = {**os.environ, "XDG_CACHE_HOME": str(shared_folder)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert PRINTED[name] in done.stdout
