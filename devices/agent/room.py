"""Size limit of the file cache on a device; the least recently used files are evicted before others arrive."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection
from typing import NamedTuple

# The tag of the Cache Directory Tagging Specification, which backups skip; the second line is this project's mark.
SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55"
MARK = "# Files that adaptare sent to this device; removed by: adaptare devices --clean DEVICE"
TAG = "CACHEDIR.TAG"
# Default of the environment variable: bytes of program files, at most half of the free disk.
MOST_BYTES, VARIABLE = 16 * 2**30, "ADAPTARE_CACHE_BYTES"
# Another agent may be about to load what it used within this time.
IN_USE_S = 3600.0


class _Entry(NamedTuple):
    used_s: float
    size: int
    path: str


def is_marked(folder: str) -> bool:
    """True if a folder is a cache of adaptare's, and may lose files."""
    try:
        with open(os.path.join(folder, TAG), encoding="utf-8", errors="replace") as tag:
            return tag.read().splitlines()[:2] == [SIGNATURE, MARK]
    except OSError:
        return False


def note_use(path: str) -> None:
    """Marks a file or folder as used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def make_room(folder: str, needed: Collection[str]) -> None:
    """Removes contents that are not `needed` and were not used for an hour, the oldest first, until the rest fits."""
    held = _within(os.path.join(folder, "files"))
    excess = sum(entry.size for entry in held) - _most_bytes(folder, sum(entry.size for entry in held))
    latest_s = time.time() - IN_USE_S
    if excess <= 0:
        return
    for program in _within(os.path.join(folder, "programs")):  # links, which are made again when needed
        if _used_s(program.path) < latest_s:
            shutil.rmtree(program.path, ignore_errors=True)
    for entry in held:
        if excess <= 0:
            return
        # Read again, as another agent may have taken it since.
        if os.path.basename(entry.path) not in needed and _used_s(entry.path) < latest_s:
            with contextlib.suppress(OSError):
                os.remove(entry.path)
                excess -= entry.size


def _most_bytes(folder: str, held: int) -> int:
    text = os.environ.get(VARIABLE, "")
    most = int(text) if text.isdigit() else MOST_BYTES
    return min(most, (held + shutil.disk_usage(folder).free) // 2)


def _used_s(path: str) -> float:
    """Time of the last use; now, if the file is missing."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return time.time()


def _within(folder: str) -> list[_Entry]:
    """Everything in a folder, the least recently used first."""
    entries = []
    for entry in os.scandir(folder) if os.path.isdir(folder) else []:
        with contextlib.suppress(OSError):  # another agent removed it
            facts = entry.stat(follow_symlinks=False)
            entries.append(_Entry(facts.st_mtime, facts.st_size, entry.path))
    return sorted(entries)
