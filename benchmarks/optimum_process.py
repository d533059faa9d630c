"""Seconds of one decode step by optimum-benchmark, of a base or with an adapter; for seconds_per_digit.py.

PYTHON benchmarks/optimum_process.py FOLDER [--rank 16] [--duration 10] [--tokens 64] [--new-tokens 32]

PYTHON is of an environment with optimum-benchmark, see seconds_per_digit.py. Its own protocol is left as it is: ten
warm-up runs, then generations for a while, in a process that it starts; decode is the mean of a generation less its
prefill. At least one generation, so that short durations are kept.
"""

import argparse
import importlib.metadata
import json

PACKAGES = ("optimum-benchmark", "transformers", "torch", "peft")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rank", type=int, default=0, help="on every linear; 0: no adapter")
    for option, value in {"--duration": 10, "--tokens": 64, "--new-tokens": 32, "--threads": 1}.items():
        parser.add_argument(option, type=int, default=value)
    given = parser.parse_args()

    from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, ProcessConfig, PyTorchConfig

    adapter = {"task_type": "CAUSAL_LM", "r": given.rank, "target_modules": "all-linear", "init_lora_weights": False}
    backend = PyTorchConfig(
        model=given.model,
        task="text-generation",
        device="cpu",
        torch_dtype="float32",
        # Each sets what the other is called.
        intra_op_num_threads=given.threads,
        inter_op_num_threads=given.threads,
        peft_type="LORA" if given.rank else None,
        peft_config=adapter if given.rank else {},
    )
    scenario = InferenceConfig(
        duration=given.duration,
        iterations=1,
        input_shapes={"batch_size": 1, "sequence_length": given.tokens},
        generate_kwargs={"max_new_tokens": given.new_tokens, "min_new_tokens": given.new_tokens},
    )
    benchmark = BenchmarkConfig(name="decode", launcher=ProcessConfig(), scenario=scenario, backend=backend)
    report = Benchmark.launch(benchmark)
    found = {
        "decode_s": report.decode.latency.mean / (given.new_tokens - 1),
        "generations": report.decode.latency.count,
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
