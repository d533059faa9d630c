"""Seconds of `llama_decode` in a plain process on llama.cpp's C API; for llama_overhead.py.

python benchmarks/stock_llama_process.py MODEL.gguf [--adapter FILE] [--length 64] [--threads 1] [--calls 8]

Medians of prompts into an empty cache, one after another (`prefill`), of eight tokens that follow such a prompt
(`decode`), and of those prompts, which follow the tokens of another text (`prefill after a text`). Parameters are
llama.cpp's defaults but for the number of threads. Structs of parameters are passed by value, so a block that is larger
than any of them stands for each.
"""

import argparse
import ctypes
import json
import statistics
import time
from pathlib import Path

import xllamacpp

TOGETHER = 8


class Block(ctypes.Structure):
    """Any struct of parameters, or a batch."""

    _fields_ = (("words", ctypes.c_int64 * 256),)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--adapter")
    for option, value in {"--length": 64, "--threads": 1, "--calls": 8, "--warm-up": 2}.items():
        parser.add_argument(option, type=int, default=value)
    given = parser.parse_args()

    llama = ctypes.CDLL(str(next(Path(xllamacpp.__file__).parent.glob("xllamacpp*.so"))))
    for name in ("llama_model_default_params", "llama_context_default_params", "llama_batch_get_one"):
        getattr(llama, name).restype = Block
    for name in ("model_load_from_file", "init_from_model", "adapter_lora_init", "get_memory"):
        getattr(llama, f"llama_{name}").restype = ctypes.c_void_p
    model = ctypes.c_void_p(llama.llama_model_load_from_file(given.model.encode(), llama.llama_model_default_params()))
    context = ctypes.c_void_p(llama.llama_init_from_model(model, llama.llama_context_default_params()))
    llama.llama_set_n_threads(context, given.threads, given.threads)
    if given.adapter:
        adapter = (ctypes.c_void_p * 1)(llama.llama_adapter_lora_init(model, given.adapter.encode()))
        assert adapter[0]
        assert not llama.llama_set_adapters_lora(context, adapter, 1, (ctypes.c_float * 1)(1.0))
    memory = ctypes.c_void_p(llama.llama_get_memory(context))
    prompt, token = (ctypes.c_int32 * given.length)(*range(100, 100 + given.length)), (ctypes.c_int32 * 1)(50)

    def seconds(tokens: ctypes.Array) -> float:
        started = time.perf_counter()
        assert not llama.llama_decode(context, llama.llama_batch_get_one(tokens, len(tokens)))
        llama.llama_synchronize(context)
        return time.perf_counter() - started

    def into_empty_cache() -> float:
        llama.llama_memory_seq_rm(memory, 0, 0, -1)
        return seconds(prompt)

    rounds = range(given.warm_up + given.calls)
    found = {"prefill": [into_empty_cache() for _ in rounds], "prefill after a text": [], "decode": []}
    for _ in rounds:
        found["prefill after a text"].append(into_empty_cache())
        found["decode"].append(statistics.median(seconds(token) for _ in range(TOGETHER)))
    print(json.dumps({phase: statistics.median(each[given.warm_up :]) for phase, each in found.items()}))


if __name__ == "__main__":
    main()
