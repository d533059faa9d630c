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
def test_what_is_not_there_is_made(kind: str, tmp_path: Path) -> None:
    made = KINDS[kind](tmp_path / "thing", write_of(kind))
    assert made == tmp_path / "thing"
    assert content(made) == "made"


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_left_beside_it(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "thing", write_of(kind))
    assert [file.name for file in tmp_path.iterdir()] == ["thing"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_not_made_again(kind: str, tmp_path: Path) -> None:
    KINDS[kind](tmp_path / "thing", write_of(kind))
    KINDS[kind](tmp_path / "thing", write_of(kind, "anew"))
    assert content(tmp_path / "thing") == "made"


def test_folders_above_it_are_made(tmp_path: Path) -> None:
    cached_folder(tmp_path / "a" / "b" / "thing", write_of("folder"))
    assert names(tmp_path) == ["a", "a/b", "a/b/thing", f"a/b/thing/{MARK}", "a/b/thing/content"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_writer_that_fails_leaves_nothing(kind: str, tmp_path: Path) -> None:
    def write(place: Path) -> None:
        write_of(kind)(place)
        raise RuntimeError("no more ideas")

    with pytest.raises(RuntimeError, match="no more ideas"):
        KINDS[kind](tmp_path / "thing", write)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_full_disk_is_told_with_advice_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    def write(place: Path) -> None:
        write_of(kind)(place)
        raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match=r"thing' cannot be written: .*No space left.*; choose another cache"):
        KINDS[kind](tmp_path / "thing", write)
    assert names(tmp_path) == []


def test_a_disk_that_is_full_while_weights_are_written_is_told_too(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageError, match=r"thing' cannot be written: .*No space left.*; choose another cache"):
        cached_folder(tmp_path / "thing", write)
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_cannot_be_written_is_told_with_advice(kind: str, tmp_path: Path) -> None:
    """A file stands where a folder would have to be: that is refused to everybody, also to the superuser."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"the cache '.*thing' cannot be written: .*; choose another cache"):
        KINDS[kind](tmp_path / "file" / "thing", write_of(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_two_who_make_the_same_at_once_both_have_it(kind: str, tmp_path: Path) -> None:
    def write(place: Path) -> None:
        KINDS[kind](tmp_path / "thing", write_of(kind, "the same"))
        write_of(kind, "the same")(place)

    assert content(KINDS[kind](tmp_path / "thing", write)) == "the same"
    assert [file.name for file in tmp_path.iterdir()] == ["thing"]


def test_a_folder_that_others_made_meanwhile_is_kept(tmp_path: Path) -> None:
    def write(place: Path) -> None:
        cached_folder(tmp_path / "thing", write_of("folder", "theirs"))
        write_of("folder", "ours")(place)

    assert content(cached_folder(tmp_path / "thing", write)) == "theirs"


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


def test_within_the_limit_everything_stays(root: Path) -> None:
    assert left(root, 500, "c") == ALL


def test_what_was_used_longest_ago_goes_first_with_its_data(root: Path) -> None:
    assert left(root, 499, "c") == ["a", "a/base.json", "a/static.onnx", "b", "b/model.onnx"]


def test_no_more_goes_than_has_to(root: Path) -> None:
    assert left(root, 350, "c") == ["a", "a/base.json", "a/static.onnx", "b", "b/model.onnx"]


def test_an_empty_folder_goes_too(root: Path) -> None:
    assert left(root, 349, "c") == ["a", "a/base.json", "a/static.onnx"]


PAIR_A, ALL_B = ["a/model.onnx", "a/model.onnx.data"], ["b", "b/model.onnx"]


@pytest.mark.parametrize(("free", "gone"), [(500, []), (498, PAIR_A), (0, PAIR_A + ALL_B)])
def test_half_of_the_free_disk_is_the_most(
    root: Path, free: int, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=free))
    assert left(root, 10**9, "c") == [name for name in ALL if name not in gone]


def test_the_environment_may_set_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ADAPTARE_CACHE_BYTES", raising=False)
    assert cache_limit_bytes() == 30 * 2**30
    monkeypatch.setenv("ADAPTARE_CACHE_BYTES", "5000")
    assert cache_limit_bytes() == 5000
    monkeypatch.setenv("ADAPTARE_CACHE_BYTES", "5 GB")
    with pytest.raises(InputError, match="ADAPTARE_CACHE_BYTES is a number of bytes, such as 10737418240, not '5 GB'"):
        cache_limit_bytes()


@pytest.mark.parametrize("opened", [OnnxBases, lambda place: TorchPrograms(cache=place)])
def test_a_wrong_limit_is_found_before_anything_is_written(
    opened: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTARE_CACHE_BYTES", "abc")
    with pytest.raises(InputError, match="ADAPTARE_CACHE_BYTES is a number of bytes"):
        opened(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_files_in_use_stay_whatever_the_limit(root: Path) -> None:
    assert left(root, 0, "a/model.onnx") == ["a", "a/model.onnx", "a/model.onnx.data"]


def test_what_was_never_finished_goes_a_day_later(root: Path) -> None:
    young, *old = (root / f"{UNFINISHED}1", root / "a" / f"{UNFINISHED}2", root / "a" / f"{UNFINISHED}3-static.onnx")
    for place in (young, old[0]):
        place.mkdir()
        (place / "model.onnx").touch()
    old[1].touch()
    for place in old:
        os.utime(place, (time.time() - 25 * 3600,) * 2)
    assert left(root, 500, "c") == [young.name, f"{young.name}/model.onnx", *ALL]


def test_what_is_being_written_beside_others_is_left_alone(root: Path) -> None:
    (root / "a" / f"{UNFINISHED}3-static.onnx").write_bytes(b"x" * 900)
    assert left(root, 500, "c") == sorted([*ALL, f"a/{UNFINISHED}3-static.onnx"])


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


def test_a_file_that_cannot_be_marked_is_used_all_the_same(tmp_path: Path) -> None:
    mark_used(tmp_path / "absent")


def test_a_mark_makes_young_and_changes_nothing_else(root: Path) -> None:
    """Digests of large files are kept for as long as the time of modification is the same."""
    before = (root / "a/model.onnx").stat().st_mtime_ns
    mark_used(root / "a/model.onnx")
    assert (root / "a/model.onnx").stat().st_mtime_ns == before
    assert left(root, 499, "c") == [name for name in ALL if not name.startswith("b")]


def test_a_pair_is_as_young_as_the_younger(root: Path) -> None:
    os.utime(root / "a/model.onnx", (9, 9))
    assert left(root, 499, "c") == [name for name in ALL if not name.startswith("b")]


def test_what_others_are_making_is_left_to_them(root: Path) -> None:
    """They make folders beside the others, and inside of them, until these are whole."""
    outside, inside = f"{UNFINISHED}1", f"b/{UNFINISHED}2"
    for place in (root / outside / "new", root / inside):
        place.mkdir(parents=True)
        (place / "model.onnx").touch()
    assert left(root, 0, "c") == [
        outside, f"{outside}/new", f"{outside}/new/model.onnx", "b", inside, f"{inside}/model.onnx",
    ]  # fmt: skip
