"""The cache on disk: whole or not at all, and within its bounds."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors import SafetensorError

from adaptare.core import InputError, StorageError
from adaptare.profiler.models.disk_cache import (
    MARK,
    UNFINISHED,
    cache_folder,
    cache_limit_bytes,
    cached_file,
    cached_folder,
    make_room,
    mark_used,
)
from adaptare.profiler.programs.builders import TorchPrograms
from adaptare.profiler.programs.onnx.bases import OnnxBases

Write = Callable[[Path], None]
KINDS = {"folder": cached_folder, "file": cached_file}


def write_of(kind: str, text: str = "made") -> Write:
    """Writes something into the folder or file it is given."""

    def write(place: Path) -> None:
        (place / "content" if kind == "folder" else place).write_text(text, encoding="utf-8")

    return write


def content(place: Path) -> str:
    return (place / "content" if place.is_dir() else place).read_text(encoding="utf-8")


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_there_is_made_once_and_nothing_is_left_beside_it(kind: str, tmp_path: Path) -> None:
    place = tmp_path / "a" / "b" / "thing"
    assert KINDS[kind](place, write_of(kind)) == place
    KINDS[kind](place, write_of(kind, "anew"))
    assert content(place) == "made"
    assert [file.name for file in place.parent.iterdir()] == ["thing"]
    assert (place / MARK).exists() == (kind == "folder")


FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (RuntimeError("no more ideas"), RuntimeError, "no more ideas"),
        (OSError(28, "No space left on device"), StorageError, "thing' cannot be written: .*No space left.*; choose"),
        (SafetensorError(FULL), StorageError, "thing' cannot be written: .*No space left.*; choose another cache"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_that_fails_leaves_nothing(
    kind: str, error: Exception, expected: type[Exception], message: str, tmp_path: Path
) -> None:
    def write(place: Path) -> None:
        write_of(kind)(place)
        raise error

    with pytest.raises(expected, match=message):
        KINDS[kind](tmp_path / "thing", write)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_cannot_be_written_is_told_with_advice(kind: str, tmp_path: Path) -> None:
    """A file stands where a folder would have to be: that is refused to everybody, also to the superuser."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"the cache '.*thing' cannot be written: .*; choose another cache"):
        KINDS[kind](tmp_path / "file" / "thing", write_of(kind))


@pytest.mark.parametrize(("kind", "kept"), [("folder", "theirs"), ("file", "ours")])
def test_two_who_make_the_same_at_once_both_have_it(kind: str, kept: str, tmp_path: Path) -> None:
    def write(place: Path) -> None:
        KINDS[kind](tmp_path / "thing", write_of(kind, "theirs"))
        write_of(kind, "ours")(place)

    assert content(KINDS[kind](tmp_path / "thing", write)) == kept
    assert [file.name for file in tmp_path.iterdir()] == ["thing"]


def test_the_cache_is_where_the_user_wants_it_or_in_the_folder_of_the_system(tmp_path: Path) -> None:
    assert cache_folder(str(tmp_path)) == tmp_path
    assert cache_folder(None).name == "adaptare"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two bases, of 300 and 200 bytes, used in the order a/model, b/model, a/static, a/base."""
    for age, file in enumerate(("a/model.onnx", "a/model.onnx.data", "b/model.onnx", "a/static.onnx", "a/base.json")):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).parent.joinpath(MARK).touch()
        (tmp_path / file).write_bytes(bytes(200 if file.startswith("b") else 75))
        os.utime(tmp_path / file, (age, age))
    return tmp_path


def left(root: Path, limit_bytes: int, keep: str) -> list[str]:
    make_room(root, limit_bytes=limit_bytes, keep=[root / keep])
    return [name for name in names(root) if not name.endswith(MARK)]


ALL = ["a", "a/base.json", "a/model.onnx", "a/model.onnx.data", "a/static.onnx", "b", "b/model.onnx"]
PAIR_A, ALL_B = ["a/model.onnx", "a/model.onnx.data"], ["b", "b/model.onnx"]
BUT_B = [name for name in ALL if name not in ALL_B]


@pytest.mark.parametrize(
    ("limit_bytes", "keep", "expected"),
    [
        (500, "c", ALL),
        (499, "c", [name for name in ALL if name not in PAIR_A]),
        (350, "c", [name for name in ALL if name not in PAIR_A]),
        (349, "c", ["a", "a/base.json", "a/static.onnx"]),
        (0, "a/model.onnx", ["a", *PAIR_A]),
    ],
)
def test_what_was_used_longest_ago_goes_first_with_its_data_and_no_more_than_has_to(
    root: Path, limit_bytes: int, keep: str, expected: list[str]
) -> None:
    """Empty folders go too, and files in use stay whatever the limit."""
    assert left(root, limit_bytes, keep) == expected


@pytest.mark.parametrize(("free", "gone"), [(500, []), (498, PAIR_A)])
def test_half_of_the_free_disk_is_the_most(
    root: Path, free: int, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=free))
    assert left(root, 10**9, "c") == [name for name in ALL if name not in gone]


def test_the_environment_may_set_the_limit_which_is_checked_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ADAPTARE_CACHE_BYTES", raising=False)
    assert cache_limit_bytes() == 30 * 2**30
    monkeypatch.setenv("ADAPTARE_CACHE_BYTES", "5000")
    assert cache_limit_bytes() == 5000
    monkeypatch.setenv("ADAPTARE_CACHE_BYTES", "5 GB")
    wrong = "ADAPTARE_CACHE_BYTES is a number of bytes, such as 10737418240, not '5 GB'"
    for opened in (cache_limit_bytes, lambda: OnnxBases(tmp_path), lambda: TorchPrograms(cache=tmp_path)):
        with pytest.raises(InputError, match=wrong):
            opened()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("limit_bytes", [500, 0])
def test_what_others_are_making_is_left_to_them_for_a_day(root: Path, limit_bytes: int) -> None:
    """They make folders and files beside the others, and inside of them, until these are whole."""
    young = [root / f"{UNFINISHED}1", root / "b" / f"{UNFINISHED}2-static.onnx"]
    old = [root / "a" / f"{UNFINISHED}3", root / "a" / f"{UNFINISHED}4-static.onnx"]
    for folder, file in (young, old):
        folder.mkdir()
        (folder / "model.onnx").touch()
        file.write_bytes(b"x" * 900)
    for place in old:
        os.utime(place, (time.time() - 25 * 3600,) * 2)
    kept = [name for place in young for name in (place, *place.glob("*"))]
    stay = [place.relative_to(root).as_posix() for place in kept]
    others = ALL if limit_bytes else ["b"]
    assert left(root, limit_bytes, "c") == sorted([*stay, *others])


def test_files_of_the_user_in_the_chosen_folder_stay_and_do_not_count(root: Path) -> None:
    theirs = [root / "x" / "model.onnx", root / "x" / ".new-1" / "notes", root / ".new-2", root / "base.json"]
    for file in theirs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(1000))
    for place in (*theirs, root / "x" / ".new-1"):
        os.utime(place, (1, 1))
    make_room(root, limit_bytes=500, keep=[])
    assert set(ALL) <= set(names(root))
    make_room(root, limit_bytes=0, keep=[])
    assert [file for file in theirs if file.is_file()] == theirs
    assert names(root) == [".new-2", "base.json", "x", "x/.new-1", "x/.new-1/notes", "x/model.onnx"]


def test_a_mark_makes_young_and_changes_nothing_else(root: Path) -> None:
    """Digests of large files are kept for as long as the time of modification is the same."""
    before = (root / "a/model.onnx").stat().st_mtime_ns
    mark_used(root / "a/model.onnx")
    mark_used(root / "absent")
    assert (root / "a/model.onnx").stat().st_mtime_ns == before
    assert left(root, 499, "c") == BUT_B


def test_a_pair_is_as_young_as_the_younger(root: Path) -> None:
    os.utime(root / "a/model.onnx", (9, 9))
    assert left(root, 499, "c") == BUT_B
