"""The documentation is a site without a warning: each page in the navigation, each link and docstring understood."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    commands = (tmp_path / "site" / "command-line" / "index.html").read_text(encoding="utf-8")
    assert "adaptare overhead" in commands
    assert "--half-width" in commands
    assert "adaptare.search.Limit" in (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
