"""Memory of the agent process."""

from __future__ import annotations

import os
import sys


def private_bytes() -> int:
    """Resident memory private to this process, bytes; 0 if not available."""
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as lines:
            sizes = [int(line.split()[1]) for line in lines if line.startswith("Private_")]
    except OSError:
        return 0
    return sum(sizes) * 1024


def peak_bytes() -> int:
    """Peak resident memory of this process, bytes; 0 if not available."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as lines:
            peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    except OSError:
        return 0
    return peaks[0] * 1024 if peaks else 0


def limit_memory(limit_bytes: int) -> None:
    """Makes allocations beyond the limit fail in this process, instead of exhausting the machine's memory."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = sys.maxsize if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_DATA, (min(limit_bytes, allowed), hard))


def mapped_file_bytes() -> int:
    """Bytes of private writable file mappings, which count towards the limit; pages only read take no memory."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
            fields = [line.split(maxsplit=5) for line in lines]
    except OSError:
        return 0
    ends = [mapping[0].split("-") for mapping in fields if mapping[1].startswith("rw-p") and mapping[4] != "0"]
    return sum(int(end, 16) - int(start, 16) for start, end in ends)


def forget(file: str) -> bool:
    """Drops a file from the page cache, as if it had not been read since system start.

    Returns:
        True on success; False where unsupported. Files mapped by a process stay in the page cache.
    """
    if not hasattr(os, "posix_fadvise"):
        return False
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True
