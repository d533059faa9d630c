"""How fast equal files are read that lie in different memory, which is what else parts and wholes differ by."""

import mmap
import os
import statistics
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES, ROUNDS = 3, 7
BLOCK = np.ones(1 << 20, np.float32).tobytes()


def equal_files(key: str, size: int) -> dict[str, Any]:
    """Each file is mapped and read by a sum in numpy, once so that the caches hold what it leaves, and once timed.

    Under a hypervisor the host decides how memory is backed, and a page stays fast or slow for as long as it lies
    where it is.

    Args:
        key: What the names of the result begin with.
        size: Of each file, in bytes, rounded down to whole blocks.

    Returns:
        Seconds of each file, and by how much the slowest takes longer than the fastest.
    """
    rng, seconds = np.random.default_rng(0), [list[float]() for _ in range(FILES)]
    with tempfile.TemporaryDirectory() as folder:
        files = [_mapped(Path(folder) / str(number), size) for number in range(FILES)]
        for number in [each for _ in range(ROUNDS) for each in rng.permutation(FILES)]:
            files[number].sum()
            start = time.perf_counter()
            files[number].sum()
            seconds[number].append(time.perf_counter() - start)
        del files  # not every system removes what is mapped
    medians = [statistics.median(each) for each in seconds]
    return {f"{key}_equal_files_s": medians, f"{key}_equal_files_spread": max(medians) / min(medians) - 1}


def _mapped(file: Path, size: int) -> NDArray[np.float32]:
    """A file of ones, read back from the disk into large pages where the system has such."""
    with file.open("wb") as written:
        for _ in range(size // len(BLOCK)):
            written.write(BLOCK)
        written.flush()
        os.fsync(written.fileno())
    with file.open("rb") as data:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(data.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        mapped = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.float32)
