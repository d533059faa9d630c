"""Seconds of a call of an OpenVINO graph in a plain process; for openvino_overhead.py.

python benchmarks/stock_openvino_process.py MODEL.xml [--states FILE.npz] [--length 64] [--calls 8]

Medians of prompts into an empty cache, one after another (`prefill`), of ten tokens that follow such a prompt
(`decode`), of which the first is left out because the cache is enlarged there, and of those prompts, which follow the
tokens of another text (`prefill after a text`). `--states` has the values of the states of an adapter by their names.
"""

import argparse
import json
import statistics
import time

import numpy as np
import openvino

TOGETHER = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--states")
    for option, value in {"--length": 64, "--calls": 8, "--warm-up": 2}.items():
        parser.add_argument(option, type=int, default=value)
    given = parser.parse_args()
    core, random = openvino.Core(), np.random.default_rng(0)
    request = core.compile_model(given.model, "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request()
    adapter = np.load(given.states) if given.states else {}
    caches = [state for state in request.query_state() if state.name not in adapter]
    for state in request.query_state():
        if state.name in adapter:
            state.state = openvino.Tensor(adapter[state.name])

    def seconds(start: int, count: int) -> float:
        """Time of a call with some tokens after others."""
        inputs = {
            "input_ids": random.integers(0, 1000, (1, count)),
            "attention_mask": np.ones((1, start + count), np.int64),
            "position_ids": np.arange(start, start + count)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        started = time.perf_counter()
        request.infer(inputs, share_outputs=True)
        return time.perf_counter() - started

    def prompt() -> float:
        for state in caches:
            state.reset()
        return seconds(0, given.length)

    rounds = range(given.warm_up + given.calls)
    found = {"prefill": [prompt() for _ in rounds], "prefill after a text": [], "decode": []}
    for _ in rounds:
        found["prefill after a text"].append(prompt())
        each = [seconds(given.length + number, 1) for number in range(TOGETHER)]
        found["decode"].append(statistics.median(each[1:]))
    print(json.dumps({phase: statistics.median(each[given.warm_up :]) for phase, each in found.items()}))


if __name__ == "__main__":
    main()
