"""Lock of a folder in which one process works at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from adaptare.core import InputError
from adaptare.core.folder_lock import locked

HOLDS = """
import sys, time
from adaptare.core.folder_lock import locked
with locked(sys.argv[1]):
    print("holds", flush=True)
    time.sleep(600)
"""


def test_a_folder_is_free_again_when_its_process_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "tuned"
    words = [sys.executable, "-c", HOLDS, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "holds\n"
        with pytest.raises(InputError, match=r"another process works in .*tuned"), locked(folder):
            pass
        with locked(tmp_path / "another"):
            pass
        holder.kill()
    with locked(folder):
        assert not folder.exists()


def test_a_link_to_a_folder_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with locked(tmp_path / "link"), pytest.raises(InputError, match="another process"), locked(tmp_path / "there"):
        pass


def test_where_no_lock_can_be_written_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with locked(tmp_path), locked(tmp_path):
        pass
