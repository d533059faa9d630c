"""Memory that another process holds, so that a process that is timed gets pages of its own; for stock_process.py.

A process gets the pages that the one before it has freed. Eight plain processes in a row are therefore one draw of
memory, not eight, and on a machine whose memory is not equally fast everywhere that draw decides: SmolLM2-135M in fp32
decodes in 30 to 39 ms while nothing is held and in 28 to 36 ms, mostly 29 to 31, with 4 GB or more held by a process
that sleeps (`python benchmarks/stock_memory.py MODEL.onnx` prints both; 2-core AMD EPYC guest, ONNX Runtime 1.32).
"""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# At most, of the memory that is free.
MOST = 0.5
HOLD = """
import mmap, sys
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
memory = mmap.mmap(-1, max(int(sys.argv[1]), 1), flags=flags)
print("held", flush=True)
sys.stdin.read()
"""
LEVELS_GIB, REPETITIONS = (0, 1, 2, 4, 6, 8, 10), 4


@contextlib.contextmanager
def memory_held(size: int) -> Iterator[None]:
    """Another process holds this many bytes, every page taken, until the context ends."""
    holding = subprocess.Popen([sys.executable, "-c", HOLD, str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holding:
        assert holding.stdout
        if not holding.stdout.readline():
            raise RuntimeError(f"a process could not hold {size / 2**30:.1f} GiB; free some memory")
        try:
            yield
        finally:
            assert holding.stdin
            holding.stdin.close()


def drawn_size(rng: np.random.Generator) -> int:
    """A random number of bytes, up to `MOST` of those that are free."""
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    return int(rng.uniform(0, MOST * free))


def main(model: str) -> None:
    """Prints seconds of one decode step in plain processes, by the memory that is held beside them."""
    script = Path(__file__).parent / "stock_onnx_process.py"
    command = [sys.executable, str(script), model, "--tokens", "1", "--past", "64", "--calls", "60"]
    found: dict[int, list[float]] = {level: [] for level in LEVELS_GIB}
    for level in np.random.default_rng(0).permutation(np.repeat(LEVELS_GIB, REPETITIONS)).tolist():
        with memory_held(level * 2**30):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        found[level].append(1e3 * json.loads(done.stdout)["median_s"])
    for level, milliseconds in found.items():
        print(f"{level:2} GiB held: {', '.join(f'{each:.1f}' for each in milliseconds)} ms")


if __name__ == "__main__":
    main(*sys.argv[1:])
