"""Seconds of a token, or of a prompt, in a plain loop of onnxruntime-genai's generator; for stock_process.py.

python benchmarks/stock_genai_process.py FOLDER [--adapter FILE] --tokens N --past N

With `--past`, a prompt of so many tokens is followed by tokens that `generate_next_token` computes and chooses, as in
the library's examples; a new generator starts after eight of them, so that the position stays near. Without it, the
call is `append_tokens` of the prompt, on a new generator each time. All is as `genai_config.json` says but for threads.
"""

import argparse
import json
import statistics
import time

import numpy as np
import onnxruntime_genai as og

TOGETHER = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--adapter")
    for option, value in {"--tokens": 1, "--past": 0, "--threads": 1, "--calls": 40, "--warm-up": 5}.items():
        parser.add_argument(option, type=int, default=value)
    given = parser.parse_args()

    config = og.Config(given.folder)
    config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": given.threads}}}}))
    model = og.Model(config)
    adapters = og.Adapters(model)
    if given.adapter:
        adapters.load(given.adapter, "adapter")
    prompt = np.random.default_rng(0).integers(100, 250, given.past or given.tokens).astype(np.int32)

    def started() -> og.Generator:
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(max_length=len(prompt) + TOGETHER + 2, do_sample=False)
        generator = og.Generator(model, parameters)
        if given.adapter:
            generator.set_active_adapter(adapters, "adapter")
        return generator

    seconds: list[float] = []
    while len(seconds) < given.warm_up + given.calls:
        generator = started()
        began = time.perf_counter()
        generator.append_tokens(prompt)
        if not given.past:
            seconds.append(time.perf_counter() - began)
            continue
        generator.generate_next_token()  # chooses a token by the logits of the prompt
        for _ in range(TOGETHER):
            if generator.is_done():
                break
            began = time.perf_counter()
            generator.generate_next_token()
            seconds.append(time.perf_counter() - began)
    seconds = seconds[given.warm_up : given.warm_up + given.calls]
    print(json.dumps({"median_s": statistics.median(seconds), "seconds": seconds}))


if __name__ == "__main__":
    main()
