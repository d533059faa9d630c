"""Files of programs, identified by content hash."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from adaptare.core.whole_file import write_whole
from adaptare.devices.program import ProgramFile

# Above this size, hashing takes longer than loading, so the digest is cached next to the file.
LARGE_BYTES = 16 * 2**20
SUFFIX = ".sha256"


def program_file(path: Path) -> ProgramFile:
    """A file with its content hash, cached next to large files until they change. Raises `OSError`."""
    return ProgramFile(path.name, _digest(path), path)


def _digest(path: Path) -> str:
    state = path.stat()
    if state.st_size < LARGE_BYTES:
        return _hashed(path)
    kept, identity = path.with_name(path.name + SUFFIX), [state.st_size, state.st_mtime_ns, state.st_ino]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(kept.read_text(encoding="utf-8"))
        if content["of"] == identity:
            os.utime(kept)  # caches evict the least recently used files first
            return str(content["sha256"])
    digest = _hashed(path)
    with contextlib.suppress(OSError):  # a read-only cache stores nothing
        write_whole(kept, json.dumps({"of": identity, "sha256": digest}))
    return digest


def _hashed(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
