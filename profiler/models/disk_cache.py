"""Cache of folders that are slow to create: written atomically, and evicted when the cache is full."""

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

import platformdirs
from safetensors import SafetensorError

from adaptare.core import InputError, StorageError

# Only folders marked with one of these names are ever removed: the user may have chosen a folder with other files.
MARK = ".adaptare-cache"
# Limit for all folders of one kind together, unless the environment variable has another.
CACHE_BYTES, VARIABLE = 30 * 2**30, "ADAPTARE_CACHE_BYTES"
UNFINISHED = ".adaptare-new-"
UNFINISHED_S = 24 * 3600


def cache_folder(chosen: str | Path | None = None) -> Path:
    """The given folder, or the user's cache folder."""
    return Path(chosen) if chosen else platformdirs.user_cache_path("adaptare")


@contextlib.contextmanager
def _place_beside(target: Path) -> Iterator[Path]:
    """A temporary folder. Raises `StorageError` if the disk is full or the location is not writable."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as place:
            yield Path(place)
    except (OSError, SafetensorError) as error:  # the latter if a full disk ends the writing of weights
        raise StorageError(f"the cache {str(target)!r} cannot be written: {error}; choose another cache") from error


def cached_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, created by `write` in a temporary location unless it exists; never partial, and marked as a cache.

    Raises `StorageError` if the disk is full or the location is not writable.
    """
    if folder.is_dir():
        return folder
    with _place_beside(folder) as place:
        fresh = place / "new"
        fresh.mkdir()
        write(fresh)
        (fresh / MARK).touch()
        try:
            fresh.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process created the same folder
                raise
    return folder


def cached_file(file: Path, write: Callable[[Path], None]) -> Path:
    """The file, created by `write` in a temporary folder unless it exists; never partial. Raises `StorageError`.

    Other files that `write` puts into the folder are moved first: a graph refers to its data by name.
    """
    if not file.exists():
        with _place_beside(file) as place:
            write(place / file.name)
            for made in sorted(place.iterdir(), key=lambda each: each.name == file.name):
                made.replace(file.with_name(made.name))
    return file


class KeptFolders:
    """Folders of one kind in the cache, each with files that are written together and named by their content.

    Args:
        cache: Parent folder of all kinds; default: the user's cache folder.
        kind: Name of the folder of this kind.

    Raises:
        InputError: As of `cache_limit_bytes`.
    """

    def __init__(self, cache: str | Path | None, kind: str) -> None:
        self.root, self._limit_bytes = cache_folder(cache) / kind, cache_limit_bytes()
        # Paths that were returned may be loaded at any time, so they are never evicted.
        self._in_use: set[Path] = set()

    def files(self, folder: Path, names: Sequence[str], write: Callable[[Path], None]) -> list[Path]:
        """Files of a folder, written into a new one if any is missing, and marked as used. Raises `StorageError`."""
        files = [folder / name for name in names]
        self._in_use.update(files)
        if not all(file.exists() for file in files):  # some files may have been evicted from the cache
            shutil.rmtree(folder, ignore_errors=True)
            cached_folder(folder, write)
            self._make_room()
        for file in files:
            mark_used(file)
        return files

    def file(self, file: Path, is_whole: Callable[[Path], bool], write: Callable[[Path], None]) -> None:
        """A further file of a folder, written unless it is whole, and marked as used. Raises `StorageError`."""
        self._in_use.add(file)
        if not is_whole(file):
            file.unlink(missing_ok=True)
            cached_file(file, write)
            self._make_room()
        mark_used(file)

    def _make_room(self) -> None:
        make_room(self.root, limit_bytes=self._limit_bytes, keep=self._in_use)


def cache_limit_bytes() -> int:
    """Limit for the files of one kind: the number in `ADAPTARE_CACHE_BYTES`, else 30 GiB.

    Raises:
        InputError: The variable holds something else.
    """
    told = os.environ.get(VARIABLE, "")
    if told and not told.isdecimal():
        raise InputError(f"{VARIABLE} is a number of bytes, such as {10 * 2**30}, not {told!r}; correct or unset it")
    return int(told) if told else CACHE_BYTES


def make_room(root: Path, *, limit_bytes: int, keep: Collection[Path]) -> None:
    """Removes files in the marked folders of `root`, least recently used first, until the rest fits the limit.

    The rest never takes more than half of the disk space that would be free without these files.

    Files of one folder whose names are equal up to the first dot are removed together. Unfinished files older than a
    day are always removed. Folders that `cached_folder` did not create are neither counted nor touched.

    Args:
        root: Parent of folders whose files can all be regenerated.
        limit_bytes: Limit for all of them together.
        keep: Files in use, which are not removed.
    """
    folders = {mark.parent for mark in root.glob(f"*/{MARK}")}
    _remove_unfinished(place for folder in (root, *folders) for place in folder.glob(f"{UNFINISHED}*"))
    together: dict[tuple[Path, str], list[Path]] = {}
    states: dict[Path, os.stat_result] = {}
    for file in (file for file in root.glob("*/*") if file.parent in folders and file.name != MARK):
        with contextlib.suppress(OSError):  # another process may remove it too
            state = file.stat()
            # Folders, and files with this prefix, are being written at present.
            if stat.S_ISREG(state.st_mode) and not file.name.startswith(UNFINISHED):
                together.setdefault((file.parent, file.name.split(".")[0]), []).append(file)
                states[file] = state

    def last_use(file: Path) -> float:
        return max(states[file].st_atime, states[file].st_mtime)

    used = {key: max(map(last_use, files)) for key, files in together.items()}
    total = sum(state.st_size for state in states.values())
    if states:
        limit_bytes = min(limit_bytes, (total + shutil.disk_usage(root).free) // 2)
    for key in sorted(used, key=lambda key: used[key]):
        if total <= limit_bytes:
            return
        if not any(file in keep for file in together[key]):
            total -= sum(states[file].st_size for file in together[key])
            for file in together[key]:
                file.unlink(missing_ok=True)
            _remove_if_empty(key[0])


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another process may remove it too
        if [file.name for file in folder.iterdir()] == [MARK]:
            shutil.rmtree(folder)


def _remove_unfinished(places: Iterable[Path]) -> None:
    for place in places:
        with contextlib.suppress(OSError):  # another process may remove it too
            if time.time() - place.stat().st_mtime > UNFINISHED_S:
                shutil.rmtree(place) if place.is_dir() else place.unlink()


def mark_used(file: Path) -> None:
    """Marks a file as recently used, so that it is evicted later; a read-only cache never evicts.

    Only the time of access changes: digests and facts are kept for as long as the time of modification is the same.
    """
    with contextlib.suppress(OSError):
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))
