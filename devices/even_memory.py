"""Files read into memory that is as fast in all places.

A hypervisor gives memory to a guest when it is touched first. What a processor of the guest touches first is fast; what
a virtual disk does, as when a file is read, may be read at half the speed for as long as the guest keeps it. So memory
is touched before a file is read into it, and what is slow nevertheless is kept from being used.
"""

import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptare.devices.agent import free_bytes

# A large page.
STRETCH = 2 * 2**20
# A stretch below this share of the speed of memory that a processor touched first is slow.
SLOW = 0.75
# How often a file is read at most.
TRIES = 3
# The best counts: whoever else uses the machine makes a stretch slow for a moment only, and what fits into the caches
# takes some passes to get there.
PASSES = 4
# What is touched beforehand, and what is kept from being used, take at most this share of what is free.
HELD = 0.25
# So much tells how fast memory is, if its caches hold less.
SAMPLE = 128 * 2**20
# Where Linux says how this process has mapped its memory.
MAPPINGS = "/proc/self/smaps"
# A file lies in large pages if this share of it does: its last page is smaller.
MOST = 0.9
_held: list[mmap.mmap] = []


def read_evenly(file: Path, size: int) -> None:
    """Reads a file into large pages, unless it lies there, and what is slow into other memory, as often as that helps.

    What somebody else has mapped stays where it is. The slow memory is held until `release`, so that nobody gets it
    meanwhile.

    Args:
        file: Some file.
        size: Bytes to be read, from its start on.

    Raises:
        OSError: It cannot be read.
        ValueError: It has fewer bytes.
    """
    with file.open("rb") as data:
        descriptor = data.fileno()
        anew = not (_is_in_memory(descriptor, size) and _lies_in_large_pages(descriptor, size))
        if anew:
            _drop(descriptor, 0, size)
        fast = _touched(size if anew else min(size, SAMPLE))
        starts = _stretches(size)
        for tries_left in reversed(range(TRIES)):
            starts = starts[_file_speeds(descriptor, size, starts) < SLOW * fast]
            slow = len(starts) * STRETCH
            held = sum(map(len, _held)) + slow
            if not slow or not tries_left or held > HELD * free_bytes() or not hasattr(os, "posix_fadvise"):
                break
            for start in starts:
                _drop(descriptor, int(start), STRETCH)
            with suppress(OSError):
                _held.append(_taken(slow))
            _touched(slow)


def release() -> None:
    """Gives back what was held, once all that is to be fast is in use."""
    _held.clear()


def _is_in_memory(descriptor: int, size: int) -> bool:
    """Whether no part of a file has to be read from the disk, where the system tells."""
    try:
        return all(os.preadv(descriptor, [bytearray(1)], start, os.RWF_NOWAIT) for start in range(0, size, STRETCH))
    except (AttributeError, OSError):
        return False


def _lies_in_large_pages(descriptor: int, size: int) -> bool:
    """Whether the system maps a file page by large page, where it tells."""
    with _mapped(descriptor, size) as mapped:
        address, found, large = np.frombuffer(mapped, np.uint8).ctypes.data, False, 0
        with suppress(OSError), open(MAPPINGS, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                first, *others = line.split()
                if not first.endswith(":"):
                    start, end = (int(each, 16) for each in first.split("-"))
                    found = start <= address < end
                elif found and first == "FilePmdMapped:":
                    large = 1024 * int(others[0])
    return large >= MOST * size


def _drop(descriptor: int, start: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.fsync(descriptor)  # what is not on the disk yet stays where it was written
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _touched(size: int) -> float:
    """Touches so much free memory, as far as there is any, and leaves it to whoever wants it next.

    Returns:
        Bytes per second at which it is read; 0 if there is none.
    """
    try:
        taken = _taken(min(size, int(HELD * free_bytes())))
    except OSError:
        return 0.0
    with taken:
        return float(np.quantile(_speeds(taken, _stretches(len(taken))), 0.9))


def _stretches(size: int) -> NDArray[np.int64]:
    """Where they begin; a shorter rest is not timed."""
    return np.arange(0, size - STRETCH + 1, STRETCH)


def _file_speeds(descriptor: int, size: int, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Those of a file, which is read from the disk where it is not in memory; see `_speeds`."""
    with _mapped(descriptor, size) as mapped:
        return _speeds(mapped, starts)


def _mapped(descriptor: int, size: int) -> mmap.mmap:
    """A file, each page of it in memory."""
    mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    _in_large_pages(mapped)
    mapped[:: mmap.PAGESIZE]
    return mapped


def _speeds(mapped: mmap.mmap, starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bytes per second of the stretches that begin there. Shape (n_starts,)."""
    words = np.frombuffer(mapped, np.int64, len(mapped) // 8)
    stretches = [words[start // 8 : (start + STRETCH) // 8] for start in starts]
    seconds = np.array([[_seconds(each) for each in stretches] for _ in range(PASSES)])
    speeds: NDArray[np.float64] = STRETCH / seconds.min(axis=0)
    return speeds


def _seconds(words: NDArray[np.int64]) -> float:
    begun = time.perf_counter()
    words.sum()
    return time.perf_counter() - begun


def _taken(size: int) -> mmap.mmap:
    """So much memory, each page of it in use."""
    anonymous = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    taken = mmap.mmap(-1, size + STRETCH, **anonymous)
    _in_large_pages(taken)
    taken[:: mmap.PAGESIZE] = bytes(-(-len(taken) // mmap.PAGESIZE))
    return taken


def _in_large_pages(mapped: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
