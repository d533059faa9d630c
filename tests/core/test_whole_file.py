"""Files that appear whole or not at all."""

import os
import sys
from pathlib import Path

import pytest

from adaptare.core.whole_file import exchanged, remove_leftovers, write_together, write_whole


def test_a_file_is_replaced(tmp_path: Path) -> None:
    for content in ("first", "second"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_text() == "second"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_moved_leaves_the_old_one_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "file", b"first")

    def interrupt(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"second")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == b"first"


def test_others_may_read_it_as_any_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "file", "content")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_of_files_that_belong_together_none_is_replaced_if_one_cannot_be_written(tmp_path: Path) -> None:
    first = tmp_path / "first"
    write_whole(first, "old")
    with pytest.raises(OSError, match="No such file or directory"):
        write_together({first: "new", tmp_path / "none" / "second": "new"})
    assert first.read_text() == "old"
    assert list(tmp_path.iterdir()) == [first]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems exchange nothing")
def test_two_folders_are_exchanged(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchanged(tmp_path / "one", tmp_path / "other"):
        pytest.skip("the file system exchanges nothing")
    assert (tmp_path / "one" / "other").exists()
    assert (tmp_path / "other" / "one").exists()
    with pytest.raises(FileNotFoundError):
        exchanged(tmp_path / "one", tmp_path / "none")


def test_leftovers_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    of_nobody = [f".out-new-{number}-x" for number in (2**22 + 1, 10**12)]  # above what a process may have
    for name in (*of_nobody, f".out-new-{os.getpid()}-x", ".out-new-one-x", ".other-new-1-x"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, ".out-new-")
    left = {path.name for path in tmp_path.iterdir()}
    assert of_nobody[0] not in left
    assert {f".out-new-{os.getpid()}-x", ".out-new-one-x", ".other-new-1-x"} <= left
