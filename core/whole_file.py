"""Atomic file writes."""

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

# Of renameat2: paths are relative to the working folder, and both are exchanged.
_HERE: Final = -100
_EXCHANGE: Final = 2


def write_whole(file: Path, content: bytes | str) -> None:
    """Writes to a temporary file first and then moves it, so that an old file stays complete until it is replaced.

    Raises:
        OSError: The file is not writable; the temporary file is removed.
    """
    write_together({file: content})


def write_together(contents: Mapping[Path, bytes | str]) -> None:
    """Like `write_whole` for files that belong together: none is moved before all are written.

    Raises:
        OSError: A temporary file is not writable, or a file is no regular one but a device or a folder; the old files
            are unchanged.
    """
    for file in contents:
        if file.exists() and not file.is_file():
            raise FileExistsError(errno.EEXIST, "it is no regular file, so it is not replaced", str(file))
    beside = {file: file.with_name(f".{file.name}.{os.getpid()}.part") for file in contents}
    try:
        for file, content in contents.items():
            with beside[file].open("wb") as stream:
                stream.write(content.encode() if isinstance(content, str) else content)
                stream.flush()
                os.fsync(stream.fileno())
        for file, written in beside.items():
            os.replace(written, file)
    except BaseException:
        for written in beside.values():
            with contextlib.suppress(OSError):
                written.unlink()
        raise


def exchanged(one: Path, other: Path) -> bool:
    """Exchanges two files or folders in one step, so that neither is ever missing; false if the system cannot.

    Raises:
        OSError: One of them is missing.
    """
    for path in (one, other):
        path.lstat()
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    return exchange is not None and not exchange(_HERE, bytes(one), _HERE, bytes(other), _EXCHANGE)


def replace_folder(fresh: Path, target: Path, *, aside: Path) -> None:
    """Moves a folder to its place; an earlier one there is whole until then, and stays if the move fails.

    Args:
        fresh: The new folder, on the same disk.
        target: Its place.
        aside: Absent path that may hold the earlier folder afterwards; `fresh` may hold it too.

    Raises:
        OSError: A folder cannot be moved.
    """
    if not target.exists():
        fresh.rename(target)
        return
    if exchanged(fresh, target):
        return
    target.rename(aside)
    try:
        fresh.rename(target)
    except OSError:
        aside.rename(target)
        raise


def remove_leftovers(folder: Path, prefix: str) -> None:
    """Removes what processes that were killed have left: `PREFIX` with their number, a hyphen and anything."""
    for path in folder.glob(f"{glob.escape(prefix)}*-*"):
        number = path.name.removeprefix(prefix).partition("-")[0]
        if number.isdecimal() and not _runs(int(number)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process_id: int) -> bool:
    if sys.platform == "win32":  # signal 0 is Ctrl-C there, and nothing is removed that may be in use
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or a number that none has
        return True
    return True
