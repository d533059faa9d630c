"""How fast equal files are read that lie in different memory, which is what else parts and wholes differ by."""

import mmap
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adaptare.devices.even_memory import read_evenly

FILES, ROUNDS = 3, 7
BLOCK = np.ones(1 << 20, np.float32).tobytes()


def equal_files(key: str, size: int) -> dict[str, Any]:
    """Files read as the system does it, and as adaptare reads those that ONNX Runtime maps.

    Each is mapped and read by a sum in numpy, once so that the caches hold what it leaves, and once timed. Under a
    hypervisor the host decides how memory is backed, and a page stays fast or slow for as long as it lies where it is.

    Args:
        key: What the names of the result begin with.
        size: Of each file, in bytes, rounded down to whole blocks.

    Returns:
        Seconds of each file, and by how much the slowest takes longer than the fastest, for both ways.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [_written(Path(folder) / str(number), size) for number in range(FILES)]
        ways = {"equal_files": _medians(files)}
        for file in files:
            read_evenly(file, file.stat().st_size)
        ways["even_files"] = _medians(files)
    spreads = {f"{key}_{way}_spread": max(seconds) / min(seconds) - 1 for way, seconds in ways.items()}
    return {**{f"{key}_{way}_s": seconds for way, seconds in ways.items()}, **spreads}


def _medians(files: Sequence[Path]) -> list[float]:
    """Seconds of each file, timed in turns."""
    mapped, seconds = [_mapped(file) for file in files], [list[float]() for _ in files]
    rng = np.random.default_rng(0)
    for number in [each for _ in range(ROUNDS) for each in rng.permutation(len(files))]:
        mapped[number].sum()
        start = time.perf_counter()
        mapped[number].sum()
        seconds[number].append(time.perf_counter() - start)
    return [statistics.median(each) for each in seconds]


def _written(file: Path, size: int) -> Path:
    """A file of ones that is on the disk and no longer in memory."""
    with file.open("wb") as written:
        for _ in range(size // len(BLOCK)):
            written.write(BLOCK)
        written.flush()
        os.fsync(written.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(written.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return file


def _mapped(file: Path) -> NDArray[np.float32]:
    """In large pages where the system has such."""
    with file.open("rb") as data:
        mapped = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapped, np.float32)
