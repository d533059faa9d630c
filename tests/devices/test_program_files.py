"""Content hashes of files, and where those of large ones are kept."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from adaptare.devices import program, program_file

CONTENT = b"some weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large, so that its digest is kept."""
    monkeypatch.setattr(program, "LARGE_BYTES", len(CONTENT))
    file = tmp_path / "model.onnx"
    file.write_bytes(CONTENT)
    return file


def kept(file: Path) -> Path:
    return file.with_name("model.onnx.sha256")


def never(path: Path) -> str:
    raise AssertionError(f"{path.name} was read again")


def test_a_file_is_what_it_contains(tmp_path: Path) -> None:
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "w").write_bytes(CONTENT)
        files.append(program_file(tmp_path / folder / "w"))
    assert files[0] == files[1]
    assert (files[0].name, files[0].digest) == ("w", DIGEST)
    assert os.listdir(tmp_path / "a") == ["w"]


def test_the_digest_of_a_large_file_is_kept_and_not_computed_again(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert program_file(large).digest == DIGEST
    monkeypatch.setattr(program, "hashed", never)
    assert program_file(large).digest == DIGEST


def test_a_changed_file_has_a_new_digest(large: Path) -> None:
    content = CONTENT.upper()
    program_file(large)
    before = large.stat()
    large.write_bytes(content)
    os.utime(large, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    expected = hashlib.sha256(content).hexdigest()
    assert program_file(large).digest == expected
    assert json.loads(kept(large).read_text())["sha256"] == expected


def test_a_file_that_took_the_place_of_another_has_a_new_digest(large: Path) -> None:
    program_file(large)
    before, other = large.stat(), large.with_name("other")
    other.write_bytes(CONTENT[::-1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(large)
    assert program_file(large).digest == hashlib.sha256(CONTENT[::-1]).hexdigest()


@pytest.mark.parametrize("text", ["", "[]", "{}", "\xff"])
def test_a_kept_digest_that_cannot_be_read_is_made_again(large: Path, text: str) -> None:
    kept(large).write_text(text, encoding="latin-1")
    assert program_file(large).digest == DIGEST


def test_a_folder_that_is_read_only_keeps_nothing(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: Path, content: str) -> None:
        raise PermissionError(13, "Permission denied", file.name)

    monkeypatch.setattr(program, "write_whole", refuse)
    assert program_file(large).digest == DIGEST
    assert not kept(large).exists()
