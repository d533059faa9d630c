from pathlib import Path

import pytest

from adaptare.core import InputError, StorageError
from adaptare.search.training.record import read_losses, write_record

SETTINGS = {"steps": 3, "space": {"sites": ["a", "b"]}}


def test_losses_come_back(tmp_path: Path) -> None:
    write_record(tmp_path / "new", SETTINGS, [1.5, 0.1])
    assert read_losses(tmp_path / "new", SETTINGS) == (1.5, 0.1)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"steps": 4}, "with steps 3, not 4"), ({"space": {"sites": ["a"]}}, "with another space")],
)
def test_other_settings_are_refused(tmp_path: Path, changed: dict[str, object], message: str) -> None:
    write_record(tmp_path, SETTINGS, [])
    with pytest.raises(InputError, match=message):
        read_losses(tmp_path, {**SETTINGS, **changed})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no record of a training"),
        ('{"schema": 1}', "is no record of a training"),
        ('{"schema": 3, "settings": {}, "losses": []}', "schema 3, this version reads up to 2"),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "training.json").write_text(content)
    with pytest.raises(InputError, match=message):
        read_losses(tmp_path, SETTINGS)


def test_a_file_in_the_way_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        write_record(tmp_path / "file", SETTINGS, [])
