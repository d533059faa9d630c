"""Fine-tuning with transformers' Trainer, with the largest adapter that is predicted to stay within a budget.

Profiles some adapters on the device, fits a predictor, takes the configuration with most weights whose upper end is
within the budget, and trains exactly that one with PEFT. `adaptare tune` searches by loss instead of by size.

    python examples/finetune_within_budget.py [MODEL] [DEVICE]
"""

import sys
from pathlib import Path

import numpy as np
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from adaptare.devices import connect
from adaptare.predictor import LatencyPredictor
from adaptare.profiler import Workload, design, named_space, open_model, precise_within, profile
from adaptare.profiler.workloads import peft_arguments

LIMIT = 1.4  # latency over that of the base without adapter; each adapter is a large part of a tiny model
EXAMPLES = [f"{a} plus {b} is {a + b}." for a in range(8) for b in range(8)]


def main(model_name: str, spelling: str, output: Path) -> None:
    """Finds the adapter, trains it for some steps, and saves it."""
    model, device = open_model(model_name), connect(spelling)
    space, base = named_space("blocks", model.shape), Workload(model.shape, mode="merged")
    campaign = [Workload(model.shape, each) for each in design(space, 16, seed=0)]
    measured = profile(campaign, reference=base, device=device, stop=precise_within(0.01, seconds=10), seed=0)
    predictor = LatencyPredictor().fit(measured)

    choices = [space.decode(codes) for codes in space.at(space.spread(200, np.random.default_rng(0)))]
    upper_s = predictor.relative.predict_configs(choices).upper  # of the ratio to the base, at its measured seconds
    limit_s = LIMIT * predictor.base_value
    within = [each for each, most in zip(choices, upper_s, strict=True) if each.ranks and most <= limit_s]
    if not within:
        sys.exit(f"no adapter is predicted to stay within {LIMIT:.0%} of the base; allow more")
    chosen = max(within, key=lambda each: each.adapter_parameters(model.shape))
    print(f"{len(within)} of {len(choices)} are within the budget; the largest: {chosen.describe()}")

    folder = model.weights_folder()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scales = dict.fromkeys(chosen.by_path, 2.0)
    config = LoraConfig(**peft_arguments(chosen, scales), task_type="CAUSAL_LM")
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config)
    rows = [tokenizer(text, return_tensors="pt")["input_ids"][0] for text in EXAMPLES]
    settings = TrainingArguments(output, max_steps=8, per_device_train_batch_size=1, learning_rate=1e-3, report_to=[])
    trainer = Trainer(adapted, settings, train_dataset=[{"input_ids": ids, "labels": ids} for ids in rows])
    trainer.train()
    adapted.save_pretrained(output)
    print(f"written: {output}; next: adaptare overhead {model_name} {output} --device {spelling}")


if __name__ == "__main__":
    name, device_name, *_ = [*sys.argv[1:], *("tiny-random", "torch-cpu:threads=1")[len(sys.argv[1:]) :]]
    main(name, device_name, Path("adapter-within-budget"))
