"""Files read into memory that is as fast in all places.

Under a hypervisor the host decides how memory is backed, and some of it is slower than the rest, for as long as it
lies where it is. Programs whose weights came to lie there would be slower than others by no fault of theirs.
"""

import mmap
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adaptare.devices.agent import free_bytes

STRETCH = 8 * 2**20
# Below this share of the speed of the fastest stretches seen, one is slow: what a processor still has in its largest
# caches is somewhat faster than memory can be.
SLOW = 0.65
# How often a file is read at most; no more where these shares of it, and of what was slow before, stay slow: then there
# is hardly any other memory.
TRIES = 3
MUCH, STILL = 0.1, 0.6
# The better counts, because whoever else uses the machine makes a stretch slow for a moment only.
PASSES = 2
# What is kept from being used again meanwhile takes at most this share of what is free.
HELD = 0.25
HUGE = 2 * 2**20
_fastest = [0.0]
_held: list[mmap.mmap] = []


def read_evenly(file: Path) -> None:
    """Reads a file anew into large pages, and what was slow into other memory, as often as that helps.

    What somebody else has mapped stays where it is. The slow memory is held until `release`, so that neither this file
    nor the next one gets it.

    Raises:
        OSError: It cannot be read.
        ValueError: It is empty, which cannot be mapped.
    """
    with file.open("rb") as data:
        descriptor = data.fileno()
        os.fsync(descriptor)  # what is not on the disk yet stays where it was written
        size = os.fstat(descriptor).st_size
        _drop(descriptor, 0, size)
        before = np.inf
        for tries_left in reversed(range(TRIES)):
            speeds = _speeds(descriptor, size)
            if not len(speeds) or not tries_left:
                break
            _fastest[0] = max(_fastest[0], float(np.quantile(speeds, 0.95)))
            slow = np.flatnonzero(speeds < SLOW * _fastest[0])
            held = sum(map(len, _held)) + len(slow) * STRETCH
            stays = len(slow) > max(MUCH * len(speeds), STILL * before)
            if not len(slow) or stays or held > HELD * free_bytes() or not hasattr(os, "posix_fadvise"):
                break
            before = len(slow)
            for stretch in slow:
                _drop(descriptor, int(stretch) * STRETCH, STRETCH)
            with suppress(OSError):
                _held.append(_taken(len(slow) * STRETCH))


def release() -> None:
    """Gives back what was held, once all is read."""
    _held.clear()


def _drop(descriptor: int, start: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _speeds(descriptor: int, size: int) -> NDArray[np.float64]:
    """Bytes per second of each stretch. Shape (n_stretches,)."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
        _in_large_pages(mapped)
        mapped[:: mmap.PAGESIZE]  # touches every page
        words = np.frombuffer(mapped, np.int64, size // 8)
        stretches = [words[start : start + STRETCH // 8] for start in range(0, len(words), STRETCH // 8)]
        seconds = np.array([[_seconds(each) for each in stretches] for _ in range(PASSES)])
        sizes = np.array([each.nbytes for each in stretches])
        del words, stretches  # what has a view cannot be unmapped
    speeds: NDArray[np.float64] = sizes / seconds.min(axis=0)
    return speeds


def _seconds(words: NDArray[np.int64]) -> float:
    begun = time.perf_counter()
    words.sum()
    return time.perf_counter() - begun


def _taken(size: int) -> mmap.mmap:
    """So much memory, each page of it in use."""
    anonymous = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    taken = mmap.mmap(-1, size + HUGE, **anonymous)
    _in_large_pages(taken)
    taken[:: mmap.PAGESIZE] = bytes(-(-len(taken) // mmap.PAGESIZE))
    return taken


def _in_large_pages(mapped: mmap.mmap) -> None:
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
