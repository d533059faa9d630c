"""The agent as one file; the contract suite runs it on a remote stand-in."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from adaptare.core import StorageError
from adaptare.devices import agent
from adaptare.devices.transports.python_agent import write_agent

SOURCES = Path(agent.__file__).parent


def test_the_same_agent_is_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for name in ("first.pyz", "second.pyz"):
        write_agent(tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]


def test_every_file_of_the_agent_is_in_it_and_nothing_of_the_host_side(tmp_path: Path) -> None:
    write_agent(tmp_path / "agent.pyz")
    with zipfile.ZipFile(tmp_path / "agent.pyz") as packed:
        content = {name: packed.read(name) for name in packed.namelist()}
    package = "adaptare/devices/agent"
    assert {name: content.pop(f"{package}/{name}") for name in [file.name for file in SOURCES.glob("*.py")]} == {
        file.name: file.read_bytes() for file in SOURCES.glob("*.py")
    }
    assert sorted(content) == ["__main__.py", "adaptare/__init__.py", "adaptare/devices/__init__.py"]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the agent cannot be written to '.*agent\.pyz': .*; name another file"):
        write_agent(tmp_path / "absent" / "agent.pyz")


def test_the_agent_runs_on_python_3_9() -> None:
    """Checked by the features that its sources use, annotations included."""
    command = [sys.executable, "-c", "from vermin import main; main()"]
    options = ["--target=3.9-", "--no-tips", "--eval-annotations", str(SOURCES)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
