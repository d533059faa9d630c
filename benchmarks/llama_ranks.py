"""Seconds of llama.cpp by rank of an adapter on all linears of SmolLM2-135M, in one process.

python benchmarks/llama_ranks.py [--json] [--kind Q4_0] [--rank 1 8 15 16 24 31 32 33 48 63 64] [--rounds 11]

Medians over rounds in random order: prefill of 64 tokens, and decode after 64. All adapters are set in one context, so
they compare cleanly with each other and with the base. Dot products of 32-bit floats take 32 terms at a time on x86-64
with AVX2, and the rest of a row one by one: this shows at ranks just below multiples of 32.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from adaptare.devices.agent.llama_library import Library
from adaptare.devices.agent.llama_runtime import write_adapter
from adaptare.profiler import open_model
from adaptare.profiler.programs.gguf_base import TYPES, base_file
from adaptare.profiler.programs.gguf_names import adapter_tensors
from adaptare.profiler.workloads import Halves

MODEL, LENGTH, TOGETHER = "smollm2-135m", 64, 6
RANKS = (1, 8, 15, 16, 24, 31, 32, 33, 48, 63, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kind", choices=TYPES.values(), default="Q4_0")
    parser.add_argument("--rank", type=int, nargs="+", default=RANKS)
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()

    shape, library, rng = open_model(MODEL).shape, Library(), np.random.default_rng(0)
    model = library.model(str(base_file(shape, options.kind, cache=None)))
    adapters: dict[int, list[int]] = {0: []}
    with tempfile.TemporaryDirectory() as place:
        for rank in options.rank:
            sizes = {site.path: (site.in_features, site.out_features) for site in shape.sites}
            halves = {path: Halves.random(path, rank, *size) for path, size in sizes.items()}
            file = Path(place, f"{rank}.gguf")
            write_adapter(file, "llama", adapter_tensors(halves, shape))
            adapters[rank] = [library.adapter(model, str(file))]
    context = library.context(model, 2 * LENGTH, threads=1, flash_attention="auto")
    tokens = np.arange(100, 101 + LENGTH, dtype=np.int32)
    calls = {LENGTH: library.decoding(context, tokens[:LENGTH]), 1: library.decoding(context, tokens[LENGTH:])}
    seconds: dict[int, dict[int, list[float]]] = {rank: {LENGTH: [], 1: []} for rank in adapters}

    def timed(rank: int, count: int) -> None:
        library.keep(context, LENGTH if count == 1 else 0)
        started = time.perf_counter()
        calls[count]()
        seconds[rank][count].append(time.perf_counter() - started)

    for _ in range(options.rounds):
        for rank in map(int, rng.permutation(list(adapters))):
            library.keep(context, 0)
            library.use(context, adapters[rank])
            calls[LENGTH]()
            timed(rank, LENGTH)
            calls[1]()
            for _ in range(TOGETHER):
                timed(rank, 1)
    rows = [
        {"rank": rank, "prefill_s": float(np.median(own[LENGTH])), "decode_s": float(np.median(own[1]))}
        for rank, own in seconds.items()
    ]
    for row in rows:
        row |= {f"{name}_overhead": row[f"{name}_s"] / rows[0][f"{name}_s"] - 1 for name in ("prefill", "decode")}
    if options.json:
        print(json.dumps({"runtime": f"llama_cpp {library.version}", "kind": options.kind, "rows": rows}))
        return
    for row in rows:
        print("rank {rank:3}: prefill {prefill_overhead:+.1%}, decode {decode_overhead:+.1%}".format(**row))


if __name__ == "__main__":
    main()
