"""Folders that take long to make and are then kept, whole or not at all, until they have to make room."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import platformdirs

from adaptare.devices import StorageError

# Nothing without one of these names is ever removed: the user may have chosen a folder with files of their own.
MARK = ".adaptare-cache"
# Of the folders of one kind together.
CACHE_BYTES = 30 * 2**30
UNFINISHED = ".adaptare-new-"
UNFINISHED_S = 24 * 3600


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The folder that the user chose, or the user's cache folder."""
    return Path(chosen) if chosen else platformdirs.user_cache_path("adaptare")


def cached_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, made by `write` in a place of its own if it is not there yet; never half-written, and marked as ours.

    Args:
        folder: Where it is kept.
        write: Fills a folder that does not exist yet, or is empty.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=UNFINISHED) as new:
            fresh = Path(new) / "new"
            fresh.mkdir()
            write(fresh)
            (fresh / MARK).touch()
            _take_place(fresh, folder)
    except OSError as error:
        raise StorageError(f"the cache {str(folder)!r} cannot be written: {error}; choose one with --cache") from error
    return folder


def _take_place(fresh: Path, folder: Path) -> None:
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.is_dir():  # else somebody else made the same meanwhile
            raise


def cached_file(file: Path, write: Callable[[Path], None]) -> Path:
    """The file, made by `write` under another name first if it is not there yet; never half-written.

    Raises:
        StorageError: The disk is full or the place cannot be written.
    """
    if file.exists():
        return file
    fresh = file.with_name(f"{UNFINISHED}{os.getpid()}-{file.name}")
    try:
        write(fresh)
        fresh.replace(file)
    except OSError as error:
        raise StorageError(f"the cache {str(file)!r} cannot be written: {error}; choose one with --cache") from error
    finally:
        with contextlib.suppress(OSError):  # a place that cannot be written cannot be tidied either
            fresh.unlink(missing_ok=True)
    return file


def make_room(root: Path, *, limit_bytes: int, keep: Collection[Path]) -> None:
    """Removes files in the marked folders of `root`, least recently used first, until the rest is small enough.

    Files of one folder that are called alike up to the first dot go together. What somebody began to make a day ago
    and never finished goes in any case. Folders that `cached_folder` did not make are neither counted nor touched.

    Args:
        root: Holds folders of files, each of which can be made again.
        limit_bytes: Of all of them together.
        keep: Files in use, which are left alone.
    """
    folders = {mark.parent for mark in root.glob(f"*/{MARK}")}
    _remove_unfinished(place for folder in (root, *folders) for place in folder.glob(f"{UNFINISHED}*"))
    together: dict[tuple[Path, str], list[Path]] = {}
    states: dict[Path, os.stat_result] = {}
    for file in (file for file in root.glob("*/*") if file.parent in folders and file.name != MARK):
        with contextlib.suppress(OSError):  # somebody else may remove it too
            state = file.stat()
            # Folders, and what is named so, are what somebody is making just now.
            if stat.S_ISREG(state.st_mode) and not file.name.startswith(UNFINISHED):
                together.setdefault((file.parent, file.name.split(".")[0]), []).append(file)
                states[file] = state
    used = {key: max(states[file].st_mtime for file in files) for key, files in together.items()}
    total = sum(state.st_size for state in states.values())
    for key in sorted(used, key=lambda key: used[key]):
        if total <= limit_bytes:
            return
        if not any(file in keep for file in together[key]):
            total -= sum(states[file].st_size for file in together[key])
            for file in together[key]:
                file.unlink(missing_ok=True)
            _remove_if_empty(key[0])


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else may remove it too
        if [file.name for file in folder.iterdir()] == [MARK]:
            shutil.rmtree(folder)


def _remove_unfinished(places: Iterable[Path]) -> None:
    for place in places:
        with contextlib.suppress(OSError):  # somebody else may remove it too
            if time.time() - place.stat().st_mtime > UNFINISHED_S:
                shutil.rmtree(place) if place.is_dir() else place.unlink()


def mark_used(file: Path) -> None:
    """So that it makes room later than others; a cache that is read-only makes no room anyway."""
    with contextlib.suppress(OSError):
        os.utime(file)
