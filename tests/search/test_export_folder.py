import json
from pathlib import Path

import pytest
from safetensors import SafetensorError

from adaptare.core import InputError, StorageError
from adaptare.search.export.folder import export_folder

ORIGIN = {"kind": "test"}
FULL_DISK = "too long"


def write(folder: Path, text: str) -> None:
    with export_folder(folder, origin=ORIGIN) as fresh:
        (fresh / "content").write_text(text)
        if text == FULL_DISK:
            raise OSError(28, "No space left on device")


def test_content_and_origin_are_written_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "new" / "export", "one")
    assert (tmp_path / "new" / "export" / "content").read_text() == "one"
    assert json.loads((tmp_path / "new" / "export" / "adaptare.json").read_text()) == ORIGIN
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["export"]


def test_an_earlier_export_is_replaced_and_an_empty_folder_filled(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    write(tmp_path / "export", "one")
    (tmp_path / "export" / "old").touch()
    write(tmp_path / "export", "two")
    assert (tmp_path / "export" / "content").read_text() == "two"
    assert not (tmp_path / "export" / "old").exists()


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("long")
    with pytest.raises(InputError, match="is no earlier export"):
        write(tmp_path / "mine", "one")
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="is no earlier export"):
        write(tmp_path / "mine" / "thesis.txt", "one")


def test_an_error_while_writing_leaves_the_earlier_export(tmp_path: Path) -> None:
    write(tmp_path / "export", "one")
    with pytest.raises(StorageError, match="No space left"):
        write(tmp_path / "export", FULL_DISK)
    assert (tmp_path / "export" / "content").read_text() == "one"
    assert [entry.name for entry in tmp_path.iterdir()] == ["export"]


def test_a_disk_that_is_full_while_weights_are_written_is_told_too(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"cannot be written to .*No space left"),
        export_folder(tmp_path / "export", origin=ORIGIN),
    ):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_swapping_leaves_the_earlier_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "export", "one")
    rename = Path.rename

    def refuses_new(source: Path, target: Path) -> Path:
        if source.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", refuses_new)
    monkeypatch.setattr("adaptare.core.whole_file.exchanged", lambda one, other: False)
    with pytest.raises(StorageError, match="Permission denied"):
        write(tmp_path / "export", "two")
    assert (tmp_path / "export" / "content").read_text() == "one"
