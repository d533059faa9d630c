"""Memory of the agent process."""

from __future__ import annotations

import os
import sys


def private_bytes() -> int:
    """Resident memory private to this process, bytes; 0 if not available."""
    sizes = [int(line.split()[1]) for line in _lines_of("/proc/self/smaps_rollup") if line.startswith("Private_")]
    return sum(sizes) * 1024


def peak_bytes() -> int:
    """Peak resident memory of this process, bytes; 0 if not available."""
    peaks = [int(line.split()[1]) for line in _lines_of("/proc/self/status") if line.startswith("VmHWM:")]
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
    fields = [line.split(maxsplit=5) for line in _lines_of("/proc/self/maps")]
    ends = [mapping[0].split("-") for mapping in fields if mapping[1].startswith("rw-p") and mapping[4] != "0"]
    return sum(int(end, 16) - int(start, 16) for start, end in ends)


def forget(file: str) -> bool:
    """Drops a file from the page cache, unless a process maps it. Returns True on success; False where unsupported."""
    if not hasattr(os, "posix_fadvise") or _is_in_memory(file):
        return False
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def _is_in_memory(file: str) -> bool:
    """True for a file in memory: its file system has no storage but the page cache."""
    device = os.stat(file).st_dev
    place = f"{os.major(device)}:{os.minor(device)}"
    mounts = [line.partition(" - ") for line in _lines_of("/proc/self/mountinfo")]
    return any(at.split()[2] == place and kind.split()[0] in ("tmpfs", "ramfs") for at, _, kind in mounts if kind)


def _lines_of(file: str) -> list[str]:
    """Lines of a file of the system; none if it cannot be read."""
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            return opened.read().splitlines()
    except OSError:
        return []
