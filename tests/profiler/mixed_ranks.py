"""Adapters whose linears have different ranks and scales, for PEFT and for the decoder of the contract suites."""

import json
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from adaptare.profiler import ModelShape
from adaptare.profiler.models.random_model import random_model
from adaptare.profiler.workloads import Halves
from adaptare.testing.program_builder import SHAPE

# Arguments of `peft.LoraConfig`.
MIXED = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["q_proj", "k_proj", "down_proj"],
    "rank_pattern": {"down_proj": 2},
    "alpha_pattern": {"down_proj": 16, "k_proj": 2},
}
TOKENS = [3, 14, 15, 9, 26, 5]


def of_family(family: str, **changes: object) -> ModelShape:
    return ModelShape.from_mapping({**json.loads(SHAPE.config), "model_type": family, **changes})


def mixed_halves(shape: ModelShape) -> dict[str, Halves]:
    """Another rank and scale on each site."""
    made = {}
    for number, site in enumerate(shape.sites):
        halves = Halves.random(site.path, 1 + number % 5, site.in_features, site.out_features)
        made[site.path] = replace(halves, scale=0.5 + number)
    return made


def torch_logits(shape: ModelShape, halves: dict[str, Halves]) -> NDArray[np.float32]:
    """Of the last two tokens, with adapters in the weights."""
    model = random_model(json.loads(shape.config))
    for path, own in halves.items():
        A, B = own.of_rows
        model.get_submodule(path).weight += torch.from_numpy((A @ B).T)
    logits: NDArray[np.float32] = model(torch.tensor([TOKENS])).logits[0, -2:].numpy()
    return logits
