"""Seconds and memory of training steps, of a recipe or of PEFT on its linears, in this process alone; prints JSON.

python benchmarks/recipe_steps.py BASE RECIPE [--peft] [--steps 6] [--batch 8] [--tokens 96]

BASE is a folder with the base model. Steps are forward, backward and AdamW on random tokens; the first is not counted.
Memory is the peak resident memory of the process during the steps, less what it had once the base was loaded.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from samplers import reset_peak, status_bytes
from transformers import PreTrainedModel

from adaptare.profiler import ModelShape
from adaptare.search import SuperAdapter, load_base
from adaptare.search.recipes.recipe import recipe_named
from adaptare.search.super_adapter.base_model import keep_masters, round_base
from adaptare.search.training.gradients import accumulate_gradients

Batch = dict[str, torch.Tensor]


def peft_step(model: PreTrainedModel, name: str) -> tuple[PreTrainedModel, Callable[[Batch, int], None]]:
    """A LoRA of PEFT of the largest rank on the linears of a recipe, and the gradients of one of its steps."""
    from peft import LoraConfig, get_peft_model

    recipe = recipe_named(name)
    sites = recipe.space(ModelShape.from_config(model.config), ranks=recipe.ranks).sites
    rank, targets = max(recipe.ranks), [site.path for site in sites]
    adapted = get_peft_model(model, LoraConfig(r=rank, lora_alpha=recipe.alpha, target_modules=targets))
    return adapted, lambda batch, step: adapted(**batch, use_cache=False).loss.backward()


def recipe_step(model: PreTrainedModel, name: str) -> tuple[PreTrainedModel, Callable[[Batch, int], None]]:
    """A super-adapter, and the gradients of one step of its recipe."""
    recipe = recipe_named(name)
    if recipe.layer.on_grid:
        keep_masters(model)
    round_base(model, recipe.quantisation(None))
    space = recipe.space(ModelShape.from_config(model.config), ranks=recipe.ranks)
    super_adapter = SuperAdapter(model, space, alpha=recipe.alpha, seed=0, layer=recipe.layer)

    def gradients(batch: Batch, step: int) -> None:
        codes = recipe.step.codes(space, seed=0, step=step)
        tokens = batch["labels"][:, 1:].numel()
        accumulate_gradients(super_adapter, codes, batch, n_tokens=tokens, distil=recipe.step.distil)

    return model, gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("recipe")
    parser.add_argument("--peft", action="store_true", help="PEFT instead of the recipe")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    options = parser.parse_args()

    model, _ = load_base(options.base)
    with torch.no_grad():  # weights that are mapped into memory are read
        model(input_ids=torch.zeros(1, 1, dtype=torch.long))
    loaded = status_bytes("VmRSS")
    model, gradients = (peft_step if options.peft else recipe_step)(model, options.recipe)
    model.train()
    optimiser = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], weight_decay=0.0)
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (options.batch, options.tokens))
    tokens = torch.from_numpy(ids)
    batch = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": tokens}
    seconds = []
    reset_peak()
    for step in range(options.steps + 1):
        began = time.monotonic()
        gradients(batch, step)
        optimiser.step()
        optimiser.zero_grad()
        seconds.append(time.monotonic() - began)
    added = status_bytes("VmHWM") - loaded
    found = {"median_s": statistics.median(seconds[1:]), "steps_s": seconds[1:], "added_bytes": added}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
