"""Lock of a folder in which one process works at a time."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from adaptare.core.errors import InputError


@contextmanager
def locked(folder: str | Path) -> Iterator[None]:
    """Holds the lock of a folder, which need not exist, until the context or the process ends.

    The file of the lock lies in the user's cache folder, so that the folder holds nothing else. If that cannot be
    written, nothing is locked.

    Raises:
        InputError: Another process of this user holds the lock.
    """
    name = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:16]
    file = user_cache_path("adaptare") / "folders" / f"{name}.lock"
    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise InputError(
            f"another process works in {str(folder)!r} already; wait until it ends, or name another folder"
        ) from error
    except OSError:
        pass  # a cache folder that cannot be written locks nothing
    try:
        yield
    finally:
        lock.release()
