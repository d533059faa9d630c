"""Seconds of calls of an exported ONNX model in a plain process of ONNX Runtime; for stock_process.py.

python benchmarks/stock_onnx_process.py MODEL.onnx [--adapter FILE] [--share-buffer] [--large-pages] --tokens N --past N

Inputs and outputs are bound once with `io_binding`. `run_with_iobinding` ignores adapters that run options activate, so
the tensors of an adapter file are read with ONNX Runtime's own `AdapterFormat` and bound like any other input. Fed
through `session.run`, they would be compared with a base that is called in another way. With `--share-buffer` the cache
is bound as input and as output, with room for the tokens of a call. With `--large-pages` all caches lie in one array,
for which NumPy asks Linux for pages of 2 MB; by default each is an array of its own, on pages of 4 kB.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime

# Numbers in a page of memory, and in all caches together at most.
PAGE, POOL = 1024, 1 << 28


def parsed(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--adapter")
    parser.add_argument("--share-buffer", action="store_true")
    parser.add_argument("--large-pages", action="store_true")
    for option, value in {
        "--tokens": 1,
        "--past": 0,
        "--threads": 1,
        "--calls": 40,
        "--warm-up": 5,
        "--head": 64,
    }.items():
        parser.add_argument(option, type=int, default=value)
    return parser.parse_args(words)


def opened(given: argparse.Namespace) -> Callable[[], float]:
    """A call of the model, which returns its seconds."""
    options, random = onnxruntime.SessionOptions(), np.random.default_rng(0)
    options.intra_op_num_threads, options.log_severity_level = given.threads, 3
    session = onnxruntime.InferenceSession(given.model, options, providers=["CPUExecutionProvider"])
    adapter = onnxruntime.AdapterFormat.read_adapter(given.adapter).get_parameters() if given.adapter else {}
    binding, room = session.io_binding(), given.tokens if given.share_buffer else 0
    caches, used = {}, 0
    pool = np.empty(POOL if given.large_pages else 0, np.float32)
    for port in session.get_inputs():
        if port.name == "input_ids":
            binding.bind_cpu_input(port.name, random.integers(0, 1000, (1, given.tokens)))
        elif port.name == "attention_mask":
            binding.bind_cpu_input(port.name, np.ones((1, given.past + given.tokens), np.int64))
        elif port.name == "position_ids":
            binding.bind_cpu_input(port.name, given.past + np.arange(given.tokens)[None])
        elif port.name.startswith("past"):
            _, heads, _, width = port.shape
            width = width if isinstance(width, int) else given.head
            cache = random.standard_normal((1, heads, given.past + room, width), dtype=np.float32)
            if given.large_pages:
                place = pool[used : used + cache.size].reshape(cache.shape)
                place[:] = cache
                cache, used = place, -(-(used + cache.size) // PAGE) * PAGE
            value = onnxruntime.OrtValue.ortvalue_from_numpy(cache)
            binding.bind_ortvalue_input(port.name, value)
            caches[port.name.replace("past_key_values", "present")] = value
    for name, value in adapter.items():
        binding.bind_ortvalue_input(name, value)
    for port in session.get_outputs():
        if room and port.name in caches:
            binding.bind_ortvalue_output(port.name, caches[port.name])
        else:
            binding.bind_output(port.name)

    def call(_held: object = (caches, adapter)) -> float:  # a binding does not keep the arrays
        started = time.perf_counter()
        session.run_with_iobinding(binding)
        return time.perf_counter() - started

    return call


def main() -> None:
    given = parsed()
    call = opened(given)
    seconds = [call() for _ in range(given.warm_up + given.calls)][given.warm_up :]
    print(json.dumps({"median_s": statistics.median(seconds), "seconds": seconds}))


if __name__ == "__main__":
    main()
