"""Overhead in llama.cpp by rank of an adapter on all linears of SmolLM2-135M.

python benchmarks/llama_ranks.py [--json] [--kind Q4_0] [--ranks 1 8 16 24 31 32 33 48 63 64] [--blocks 5]

Prefill of 64 tokens, and decode after 64, on one thread. Each block is a new process with all adapters in one context,
which calls each of them once in every round, in random order. The ratio to the base is that of the medians in a block;
the interval is Student's t over the blocks. Dot products of 32-bit floats take 32 terms at a time on x86-64 with AVX2,
and the rest of a row one by one: this shows at ranks just below multiples of 32.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from graphs import ratios_of
from stock_process import conditions

from adaptare.devices.agent.llama_library import Library
from adaptare.devices.agent.llama_runtime import write_adapter
from adaptare.profiler import open_model
from adaptare.profiler.models.disk_cache import KeptFolders
from adaptare.profiler.programs.gguf_base import TYPES, base_file
from adaptare.profiler.programs.gguf_names import adapter_tensors
from adaptare.profiler.workloads import Halves

MODEL, LENGTH, TOGETHER, ROUNDS = "smollm2-135m", 64, 6, 6
RANKS = (1, 8, 16, 24, 31, 32, 33, 48, 63, 64)
# Tokens of a call -> its phase.
PHASES = {LENGTH: "prefill", 1: "decode"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kind", choices=TYPES.values(), default="Q4_0")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--blocks", type=int, default=5)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        blocks = list(pool.map(partial(block, options.kind, options.ranks), range(options.blocks)))
    found = {phase: ratios_of([each[phase] for each in blocks], "0") for phase in PHASES.values()}
    if options.json:
        print(json.dumps({**conditions(1), "kind": options.kind, "blocks": options.blocks, **found}))
        return
    for phase, rows in found.items():
        for rank, row in rows.items():
            lower, middle, upper = (100 * (ratio - 1) for ratio in row["ratio"])
            print(f"{phase} rank {rank:>3}: {middle:+.1f} % [{lower:.1f}, {upper:.1f}]")


def block(kind: str, ranks: Sequence[int], seed: int) -> dict[str, dict[str, float]]:
    """Phase -> rank, 0 for the base -> median seconds, in this process."""
    shape, library, rng = open_model(MODEL).shape, Library(), np.random.default_rng(seed)
    model = library.model(str(base_file(KeptFolders(None, "gguf"), shape, kind)))
    adapters: dict[int, list[int]] = {0: []}
    with tempfile.TemporaryDirectory() as place:
        for rank in ranks:
            halves = {
                site.path: Halves.random(site.path, rank, site.in_features, site.out_features) for site in shape.sites
            }
            file = Path(place, f"{rank}.gguf")
            write_adapter(file, "llama", adapter_tensors(halves, shape))
            adapters[rank] = [library.adapter(model, str(file))]
    context = library.context(model, 2 * LENGTH, threads=1, flash_attention="auto")
    tokens = np.arange(100, 101 + LENGTH, dtype=np.int32)
    calls = {LENGTH: library.decoding(context, tokens[:LENGTH]), 1: library.decoding(context, tokens[LENGTH:])}
    seconds: dict[str, dict[str, list[float]]] = {
        phase: {str(rank): [] for rank in adapters} for phase in PHASES.values()
    }

    def timed(rank: int, count: int) -> None:
        library.keep(context, LENGTH if count == 1 else 0)
        started = time.perf_counter()
        calls[count]()
        seconds[PHASES[count]][str(rank)].append(time.perf_counter() - started)

    for _ in range(ROUNDS):
        for rank in map(int, rng.permutation(list(adapters))):
            library.keep(context, 0)
            library.use(context, adapters[rank])
            calls[LENGTH]()  # the first one after a change of adapters is not timed
            timed(rank, LENGTH)
            calls[1]()
            for _ in range(TOGETHER):
                timed(rank, 1)
    return {phase: {rank: float(np.median(each)) for rank, each in own.items()} for phase, own in seconds.items()}


if __name__ == "__main__":
    main()
