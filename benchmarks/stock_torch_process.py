"""Seconds of calls of a model, with or without a PEFT adapter, in a plain process of torch; for stock_process.py.

python benchmarks/stock_torch_process.py FOLDER [--adapter FOLDER] --tokens N --past N [--threads 1] [--calls 40]

The cache loses the token of each call after it, outside of what is timed; a prefill has none.
"""

import argparse
import inspect
import json
import statistics
import time

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, DynamicCache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--adapter")
    for option, value in {"--tokens": 1, "--past": 0, "--threads": 1, "--calls": 40, "--warm-up": 5}.items():
        parser.add_argument(option, type=int, default=value)
    given = parser.parse_args()

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32).eval()
    # Releases before 5 of transformers call it otherwise.
    cached = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    if given.adapter:
        model = PeftModel.from_pretrained(model, given.adapter).eval()
    tokens, prompt = (torch.randint(0, 1000, (1, length)) for length in (given.tokens, given.past))
    inputs = {"input_ids": tokens, "use_cache": True, "logits_to_keep": 1}

    seconds = []
    with torch.inference_mode():
        if given.past:
            cache = DynamicCache(config=model.config)
            inputs[cached] = cache
            model(**{**inputs, "input_ids": prompt})
        for _ in range(given.warm_up + given.calls):
            started = time.perf_counter()
            model(**inputs)
            seconds.append(time.perf_counter() - started)
            if given.past:
                cache.crop(-given.tokens)
    seconds = seconds[given.warm_up :]
    print(json.dumps({"median_s": statistics.median(seconds), "seconds": seconds}))


if __name__ == "__main__":
    main()
