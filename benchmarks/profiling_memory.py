"""How fast equal files are read that lie in different memory: no timing of parts and wholes can be nearer than that."""

import mmap
import os
import random
import statistics
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILES, ROUNDS = 4, 9


def equal_files(size: int) -> dict[str, Any]:
    """Each file is mapped and read by a sum in numpy, once so that the caches hold what it leaves, and once timed.

    Under a hypervisor memory that is contiguous to us may be scattered small pages on the host, for as long as it
    stays where it is.

    Args:
        size: Of each file, in bytes.
    """
    with ExitStack() as open_files:
        folder = Path(open_files.enter_context(tempfile.TemporaryDirectory()))
        files = [_mapped(folder / str(number), size) for number in range(FILES)]
        seconds: list[list[float]] = [[] for _ in files]
        for number in [each for _ in range(ROUNDS) for each in random.sample(range(FILES), FILES)]:
            files[number].sum()
            start = time.perf_counter()
            files[number].sum()
            seconds[number].append(time.perf_counter() - start)
    medians = [statistics.median(each) for each in seconds]
    return {"equal_files_s": medians, "equal_files_spread": max(medians) / min(medians) - 1}


def _mapped(file: Path, size: int) -> NDArray[np.float32]:
    """A file of ones, read back from the disk into large pages where the system has such."""
    with file.open("wb") as written:
        block = np.ones(1 << 20, np.float32).tobytes()
        for _ in range(size // len(block)):
            written.write(block)
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
