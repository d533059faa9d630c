from pathlib import Path

import pytest

from adaptare.core import InputError, StorageError
from adaptare.core.versioned_json import read_versioned, write_versioned


def read(file: Path) -> dict[str, object]:
    return read_versioned(file, schema=2, otherwise="this is no recipe; bake one")


def test_what_is_written_is_read_without_its_schema(tmp_path: Path) -> None:
    write_versioned(tmp_path / "new" / "file.json", {"flour_g": 500}, schema=2)
    assert read(tmp_path / "new" / "file.json") == {"flour_g": 500}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "this is no recipe; bake one; .* cannot be read: No such file"),
        ("{", "this is no recipe; bake one; .* is not JSON"),
        ("[]", "names no schema"),
        ('{"schema": "1"}', "names no schema"),
        ('{"schema": 3}', "has schema 3, this version reads up to 2; update adaptare, unless "),
    ],
)
def test_other_files_are_refused(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "file.json"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read(file)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="cannot be written: "):
        write_versioned(tmp_path / "file" / "file.json", {}, schema=1)
