"""Seconds of a call of an OpenVINO graph in a plain process; for openvino_overhead.py.

python benchmarks/stock_openvino_process.py MODEL.xml [--states FILE.npz] [--length 64] [--calls 8]

A text that grows: a prompt into an empty cache (`prefill`), followed by ten tokens (`decode`), of which the first is
left out because the cache is enlarged there. Both are medians. `--states` has the values of the states of an adapter by
their names.
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

    found: dict[str, list[float]] = {"prefill": [], "decode": []}
    for _ in range(given.warm_up + given.calls):
        for state in caches:
            state.reset()
        found["prefill"].append(seconds(0, given.length))
        each = [seconds(given.length + number, 1) for number in range(TOGETHER)]
        found["decode"].append(statistics.median(each[1:]))
    print(json.dumps({phase: statistics.median(each[given.warm_up :]) for phase, each in found.items()}))


if __name__ == "__main__":
    main()
